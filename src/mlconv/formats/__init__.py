"""Readers of model files. They need no framework and run nothing that a file contains."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from mlconv.tensors import TensorSpec

Format = Literal[
    "torch-export", "torchscript", "torch-module", "torch-weights", "torch-pickle", "saved-model", "keras", "keras-h5",
    "tf-graph", "tflite", "tflite-edgetpu", "onnx", "ort", "coreml", "coreml-package",
]  # fmt: skip
FORMATS: tuple[Format, ...] = get_args(Format)


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A source whose format is known.

    Attributes:
        ref: As the user wrote it.
        path: The file or folder; of a REF the Python file, or None where it names a module.
        format: An id of design §2.
    """

    ref: str
    path: Path | None
    format: Format


@dataclass(frozen=True, slots=True)
class Description:
    """What a file says of itself, read without running it.

    Attributes:
        operators: Name to count, every subgraph and function body included; empty where the format has no graph.
        parameters: Elements of all constant float or quantized tensors that are weights; None where unknown.
        macs: Multiply-accumulates of one run at the static shapes (dynamic axes count as 1); None where unknown.
        bytes: Size of the file or of all files of the folder, external data included.
        quantization: None for a float model; else e.g. ``{"kind": "full", "dtypes": {"int8": 31, "int32": 12}}``.
        opset: Version of the default ONNX domain.
        metadata: The author's keys, as text.
        provenance: What mlconv wrote into the file when it made it, or None.
        signatures: Names of the entry points where there are several kinds.
        notes: What a user should know, e.g. that the file holds a pickle; each one sentence.
    """

    format: Format
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    operators: dict[str, int] = field(default_factory=dict)
    parameters: int | None = None
    macs: int | None = None
    bytes: int = 0
    quantization: dict[str, Any] | None = None
    opset: int | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    provenance: dict[str, Any] | None = None
    signatures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
