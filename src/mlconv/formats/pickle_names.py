"""Names in pickles: which of them are harmless to import, and the dtypes that torch's stand for.

The list is that of ``torch.load(weights_only=True)``, torch 2.13, torch/_weights_only_unpickler.py,
``_get_allowed_globals``, and numpy's scalars, in which checkpoints keep losses.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Global:
    """A name that loading would import."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


def is_allowed(name: Global) -> bool:
    """Whether a name is one of torch's tensor-building functions, types, or a plain container."""
    return (
        str(name) in _ALLOWED
        or (name.module in _TYPED_MODULES and name.name.endswith(("Storage", "Tensor")))
        or (name.module == "numpy.dtypes" and name.name.endswith("DType") and name.name != "ObjectDType")
    )


_TYPED_MODULES = ("torch", "torch.cuda", "torch.sparse", "torch.cuda.sparse")
_QSCHEMES = ("per_tensor_affine", "per_tensor_symmetric", "per_channel_affine", "per_channel_symmetric",
             "per_channel_affine_float_qparams")  # fmt: skip
DTYPES: dict[str, str] = {
    "float16": "float16", "half": "float16", "float32": "float32", "float": "float32", "float64": "float64",
    "double": "float64", "bfloat16": "bfloat16", "bool": "bool", "int8": "int8", "uint8": "uint8", "int16": "int16",
    "uint16": "uint16", "int32": "int32", "uint32": "uint32", "int64": "int64", "uint64": "uint64",
    "complex32": "complex32", "complex64": "complex64", "complex128": "complex128", "qint8": "int8", "quint8": "uint8",
    "qint32": "int32", "quint4x2": "uint4", "quint2x4": "uint2", "float8_e4m3fn": "float8_e4m3fn",
    "float8_e5m2": "float8_e5m2", "float8_e4m3fnuz": "float8_e4m3fnuz", "float8_e5m2fnuz": "float8_e5m2fnuz",
    "float8_e8m0fnu": "float8_e8m0fnu", "float4_e2m1fn_x2": "float4_e2m1fn", "bits8": "uint8", "bits16": "uint16",
    "bits1x8": "uint1", "bits2x4": "uint2", "bits4x2": "uint4",
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in range(1, 8)},
}  # fmt: skip
STORAGE_DTYPES: dict[str, str | None] = {
    "Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16", "Byte": "uint8", "Char": "int8",
    "Short": "int16", "Int": "int32", "Long": "int64", "Bool": "bool", "ComplexFloat": "complex64",
    "ComplexDouble": "complex128", "QInt8": "int8", "QUInt8": "uint8", "QInt32": "int32", "QUInt4x2": "uint4",
    "QUInt2x4": "uint2", "Untyped": None,
}  # fmt: skip
_ALLOWED = frozenset(
    ["_codecs.encode", "builtins.bytearray", "builtins.complex", "builtins.set", "collections.Counter", "collections.OrderedDict", "torch.Size", "torch.device", "torch.nn.parameter.Parameter", "torch.serialization._get_layout", "torch.storage.TypedStorage", "torch.storage.UntypedStorage", "torch._tensor._rebuild_from_type_v2", "numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"]
    + [f"torch._utils._rebuild_{what}" for what in (
        "device_tensor_from_cpu_tensor", "device_tensor_from_numpy", "meta_tensor_no_storage", "nested_tensor", "parameter",
        "parameter_with_state", "qtensor", "sparse_tensor", "tensor", "tensor_v2", "tensor_v3", "wrapper_subclass",
    )]
    + [f"torch.{name}" for name in (*DTYPES, *_QSCHEMES)]
)  # fmt: skip
