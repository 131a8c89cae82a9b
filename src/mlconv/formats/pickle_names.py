"""Names in pickles: which of them are harmless to import, and the dtypes that torch's stand for.

The list is that of ``torch.load(weights_only=True)``, torch 2.13, torch/_weights_only_unpickler.py,
``_get_allowed_globals``, and numpy's scalars, in which checkpoints keep losses.
"""

from __future__ import annotations

import _compat_pickle
import sys
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


def is_of_data(name: Global) -> bool:
    """Whether a foreign name is of a kind that training leaves beside weights: settings, metrics, dates, classes of a project.

    Nothing of the kind is ever imported here. The question is what a file is to be called: one whose pickle reaches for
    the operating system, or for a way to run text, is nobody's settings, and is refused whole.
    """
    # up to protocol 2 a name is written as Python 2 had it: `commands.Popen`
    module = _compat_pickle.IMPORT_MAPPING.get(name.module, name.module)
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names or top in ("nt", "posix"):
        return (
            module in _DATA_MODULES
            or str(name) in _DATA
            or name.name in ("PosixPath", "WindowsPath", "PurePosixPath")
        )
    if top in ("torch", "numpy"):
        return name.module.startswith(_DATA_PACKAGES) or str(name) in _DATA
    return top not in _CODE_MODULES and name.module != "?"


_DATA = frozenset(
    ["types.SimpleNamespace", "_codecs.encode", "copyreg._reconstructor", "functools.partial", "numpy.ndarray", "numpy.dtype"]
    + [f"builtins.{kind}" for kind in ("object", "dict", "list", "tuple", "set", "frozenset", "str", "int", "long", "unicode",
                                       "float", "bool", "bytes", "slice", "range", "complex", "bytearray", "type")]
)  # fmt: skip
_DATA_MODULES = frozenset(
    {
        "argparse",
        "collections",
        "dataclasses",
        "datetime",
        "decimal",
        "enum",
        "fractions",
        "random",
        "typing",
        "uuid",
    }
)
_DATA_PACKAGES = ("torch.nn.", "torch.optim.", "torch.torch_version", "torch.utils.data", "torch.distributed", "torch.ao.",
                  "torch._utils", "torch._C", "torch.amp", "torch.cuda.amp", "numpy.core", "numpy._core", "numpy.random")  # fmt: skip
_CODE_MODULES = frozenset(
    {"cloudpickle", "dill", "IPython", "pip", "setuptools", "pkg_resources", "joblib", "pytest", "_pytest"}
)
"""Packages that make functions out of text or bytecode, or that install others."""

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
