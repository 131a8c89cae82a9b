"""TFLite: what a file is, and what it says of itself.

``read`` gives the whole model as frozen values (``mlconv.formats.tflite_graph``).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from mlconv.formats import Description, ModelFile, mapped
from mlconv.formats.flatbuffer import FlatbufferError, Reader
from mlconv.formats.tflite_graph import Affine, Model, Operator, Signature, Subgraph, Tensor
from mlconv.formats.tflite_macs import macs
from mlconv.formats.tflite_ranges import value_ranges
from mlconv.formats.tflite_read import is_tflite, parse, read
from mlconv.tensors import TensorSpec

__all__ = [
    "PROVENANCE", "Affine", "Model", "Operator", "Signature", "Subgraph", "Tensor", "describe", "is_edgetpu",
    "is_tflite", "macs", "parameters", "parse", "quantization", "read", "value_ranges",
]  # fmt: skip

PROVENANCE = "MLCONV_PROVENANCE"
"""The metadata buffer in which mlconv says where the file came from."""

_FLOAT = frozenset({"float16", "bfloat16", "float32", "float64"})
_INTEGER = frozenset({"int2", "int4", "uint4", "int8", "uint8", "int16", "uint16", "int32", "int64"})
_BOUNDARY = frozenset({"QUANTIZE", "DEQUANTIZE"})
_TEXT_LIMIT = 4096  # characters of one metadata buffer that are told


def is_edgetpu(path: Path) -> bool:
    """Whether a TFLite model was compiled for the Edge TPU: it has an operator ``edgetpu-custom-op``.

    Raises:
        Corrupt: It is no TFLite model.
    """
    return read(path).is_edgetpu


def describe(model: ModelFile, signature: str | None = None, *, parsed: Model | None = None) -> Description:
    """What a TFLite file says of itself; see ``Description``.

    Parameters are the elements of float or quantized constants with more than one element, each buffer once. MACs are
    those of the signature's subgraph and what it calls. A model compiled for the Edge TPU hides both. ``parsed`` is the
    file where it was read already.

    Raises:
        Corrupt: The bytes are no TFLite model.
        UnknownSignature: It has no entry point ``signature``.
    """
    path = mapped.path_of(model)
    graph = read(path) if parsed is None else parsed
    entry = graph.signature(signature)
    ranges = value_ranges(graph, signature)
    notes = []
    if graph.external_bytes:
        notes.append(f"{graph.external_bytes:,} bytes of constants lie behind the flatbuffer.")
    customs = sorted({operator.custom for _, operator in graph.operators() if operator.custom is not None})
    if customs and not graph.is_edgetpu:
        notes.append(f"MACs leave out custom operators: {', '.join(customs)}.")
    provenance = graph.metadata.get(PROVENANCE)
    return Description(
        format=model.format,
        inputs=_specs(graph, entry.subgraph, entry.inputs, ranges),
        outputs=_specs(graph, entry.subgraph, entry.outputs, {}),
        operators=graph.counts(),
        parameters=None if graph.is_edgetpu else parameters(graph),
        macs=macs(graph, entry.subgraph),
        bytes=path.stat().st_size,
        quantization=quantization(graph),
        metadata=_metadata(graph),
        provenance=mapped.provenance(provenance) if provenance is not None else None,
        signatures=tuple(known.key for known in graph.signatures),
        notes=tuple(notes),
    )


def parameters(model: Model) -> int:
    """Elements of weights. Constants of one element are coefficients of operators as often as weights: not counted."""
    weights = {
        (tensor.buffer, tensor.elements)
        for graph in model.subgraphs
        for tensor in graph.tensors
        if tensor.is_constant and _is_real(tensor) and tensor.elements > 1
    }
    return sum(elements for _, elements in weights)


def quantization(model: Model) -> dict[str, Any] | None:
    """How the model is quantized, or None for a float model.

    ``kind`` is ``full`` where all computing is on integers (floats stand only at QUANTIZE and DEQUANTIZE); ``partial``
    where some computed tensors are quantized and others are float; ``dynamic`` where only weights are quantized and an
    operator takes them beside float activations (LiteRT quantizes those as it runs); ``weights`` where weights are
    stored small and every one is dequantized before use. ``dtypes`` counts the tensors that stand for real numbers.
    """
    tensors = [tensor for graph in model.subgraphs for tensor in graph.tensors if _is_real(tensor)]
    small = [
        t for t in tensors if t.dtype not in _FLOAT or (t.dtype in ("float16", "bfloat16") and t.is_constant)
    ]
    if not small:
        return None
    counts = Counter(tensor.dtype for tensor in tensors)
    kind = "full"
    if not any(not tensor.is_constant and tensor.dtype in _INTEGER for tensor in small):
        kind = (
            "dynamic" if any(_mixes(graph, operator) for graph, operator in model.operators()) else "weights"
        )
    elif any(_computes_in_float(graph, operator) for graph, operator in model.operators()):
        kind = "partial"
    return {"kind": kind, "dtypes": dict(sorted(counts.items()))}


def _is_real(tensor: Tensor) -> bool:
    """Whether a tensor stands for real numbers: floats, and integers with a scale."""
    return tensor.dtype in _FLOAT or (tensor.dtype in _INTEGER and tensor.quantization is not None)


def _mixes(graph: Subgraph, operator: Operator) -> bool:
    """Whether an operator itself takes float activations and integer weights."""
    if operator.kind in _BOUNDARY:
        return False
    inputs = [t for index in operator.inputs if (t := graph.tensor(index)) is not None and _is_real(t)]
    return any(t.dtype in _FLOAT and not t.is_constant for t in inputs) and any(
        t.dtype in _INTEGER and t.is_constant for t in inputs
    )


def _computes_in_float(graph: Subgraph, operator: Operator) -> bool:
    if operator.kind in _BOUNDARY:
        return False
    return any(graph.tensors[index].dtype in _FLOAT for index in operator.outputs if index >= 0)


def _specs(
    model: Model, subgraph: int, names: dict[str, int], ranges: dict[str, tuple[int, int]]
) -> tuple[TensorSpec, ...]:
    specs = []
    for name, index in names.items():
        tensor = model.subgraphs[subgraph].tensors[index]
        affine = tensor.quantization.per_tensor if tensor.quantization and tensor.dtype in _INTEGER else None
        specs.append(TensorSpec(name, tensor.dims, tensor.dtype, affine, ranges.get(name)))
    return tuple(specs)


def _metadata(model: Model) -> dict[str, str]:
    """The author's keys: the description, what TFLITE_METADATA holds, other buffers as text or their size."""
    told = {"description": model.description} if model.description else {}
    for name, data in model.metadata.items():
        if name == "TFLITE_METADATA":
            told |= _model_metadata(data)
        elif name != PROVENANCE:
            told[name] = _as_text(data)
    return told


def _model_metadata(data: memoryview) -> dict[str, str]:
    """Text fields of ModelMetadata (tflite-support, metadata_schema.fbs); nothing where it is broken."""
    fields = {"name": 0, "description": 1, "version": 2, "author": 4, "license": 5}
    try:
        root = Reader(data).root()
        return {key: root.text(number) for key, number in fields.items() if root.has(number)}
    except FlatbufferError:
        return {"TFLITE_METADATA": f"{len(data)} bytes"}


def _as_text(data: memoryview) -> str:
    try:
        text = bytes(data[:_TEXT_LIMIT]).rstrip(b"\0").decode()
    except UnicodeDecodeError:
        return f"{len(data)} bytes"
    return text if text.isprintable() else f"{len(data)} bytes"
