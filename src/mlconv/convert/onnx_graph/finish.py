"""What every ONNX artifact goes through, whatever it was made from.

    load -> repair -> versions -> half precision where asked -> canonical form     the plain model
                                                            -> onnxslim -> canonical form      the optimized one

The pipeline compares both with the source and saves one, with its provenance inside.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from mlconv.convert.job import Options
from mlconv.convert.onnx_graph.canonical import canonical
from mlconv.convert.onnx_graph.file import load, save
from mlconv.convert.onnx_graph.fp16 import Halved, to_fp16
from mlconv.convert.onnx_graph.names import Names
from mlconv.convert.onnx_graph.optimize import optimized
from mlconv.convert.onnx_graph.repair import repaired
from mlconv.convert.onnx_graph.shapes import is_unknown
from mlconv.convert.onnx_graph.versions import set_versions
from mlconv.errors import listed
from mlconv.runners.onnx_session import onnxruntime_limits
from mlconv.runtimes.fit import within
from mlconv.tensors import TensorSpec

PROVENANCE = "mlconv.provenance"
"""The key in ``metadata_props`` under which a model tells, as JSON, what it was made from."""

_HALF_OPSET = 14
"""onnxruntime 1.31 crashes (segmentation fault, MatmulTransposeFusion) on a valid float16 transformer at opsets 12 and 13."""


@dataclass(frozen=True, slots=True)
class Variants:
    """One model twice: as converted, and optimized (None where it was not asked for or gained nothing)."""

    plain: ir.Model
    optimized: ir.Model | None
    warnings: tuple[str, ...] = ()


def variants(
    path: Path, options: Options, inputs: Sequence[TensorSpec] = (), names: Names = "kept"
) -> Variants:
    """Both forms of a converter's file, ready for ``with_provenance`` and ``save``.

    Args:
        path: What the converter wrote.
        options: ``opset``, ``runtime``, ``precision`` and ``optimize`` count here.
        inputs: The source's signature: the artifact has its inputs in that order, and its names for axes without one.
        names: ``structural`` for files whose names differ from run to run (tf2onnx), else ``kept``.

    Raises:
        Corrupt, PathEscape, ExternalDataMissing: The file cannot be read.
        UnsupportedOpset, OpsetOutOfReach: See ``onnx_graph.versions.set_versions``.
        ConverterFailed: Half precision was asked for and is not possible.
    """
    limits = within(onnxruntime_limits(), options.runtime)
    model, warnings = repaired(load(path))
    model = set_versions(model, _opset(model, options, limits[0], warnings), limits)
    if options.precision == "fp16":
        halved = to_fp16(model)
        model = set_versions(halved.model, None, limits)
        warnings += _told(halved)
    _match(model, inputs)
    plain = canonical(model, names)
    if not options.optimize:
        return Variants(plain, None, tuple(warnings))
    slim = optimized(plain)
    if slim.note:
        warnings.append(slim.note)
    return Variants(plain, canonical(slim.model, names) if slim.model else None, tuple(warnings))


def _opset(model: ir.Model, options: Options, newest: int, warnings: list[str]) -> int | None:
    own = model.graph.opset_imports.get("", 0)
    if options.precision == "fp16" and options.opset is None and 0 < own < _HALF_OPSET:
        warnings.append(
            f"opset {own} became {_HALF_OPSET}: onnxruntime crashes on half precision in older ones"
        )
        return _HALF_OPSET
    if options.opset is None and own > newest:
        warnings.append(f"opset {own} became {newest}, the newest that the installed onnxruntime loads")
    return options.opset


def _told(halved: Halved) -> list[str]:
    told = []
    if halved.clipped:
        told.append(
            f"numbers beyond 65504, the greatest in half precision, were clipped in {listed(halved.clipped)}"
        )
    if halved.float_operators:
        told.append(
            f"{listed(halved.float_operators)} compute in float32 still: in half precision they are missing or go wrong"
        )
    return told


def _match(model: ir.Model, inputs: Sequence[TensorSpec]) -> None:
    """The source's order of inputs, and its names for axes."""
    place = {spec.name: position for position, spec in enumerate(inputs)}
    ordered = sorted(model.graph.inputs, key=lambda value: place.get(value.name or "", len(place)))
    model.graph.inputs.clear()
    model.graph.inputs.extend(ordered)
    shapes = {spec.name: spec.shape for spec in inputs}
    for value in ordered:
        wanted = shapes.get(value.name or "")
        if wanted is not None and value.shape is not None and len(wanted) == len(value.shape):
            dims = [
                name if isinstance(name, str) and is_unknown(dim) else dim
                for dim, name in zip(value.shape, wanted, strict=True)
            ]
            value.shape = ir.Shape(dims)


def with_provenance(
    model: ir.Model, provenance: dict[str, Any], metadata: Sequence[tuple[str, str]] = ()
) -> ir.Model:
    """The model with what it was made from (``PROVENANCE``, JSON) and the user's keys in its metadata.

    Keys that the source had stay, unless the user gives them anew.
    """
    from mlconv import __version__

    model = model.clone()
    kept = {**model.metadata_props, PROVENANCE: json.dumps(provenance, sort_keys=True), **dict(metadata)}
    model.metadata_props.clear()
    model.metadata_props.update(sorted(kept.items()))
    model.producer_name, model.producer_version = "mlconv", __version__
    return model


__all__ = [
    "PROVENANCE", "Names", "Variants", "canonical", "load", "optimized", "repaired", "save", "set_versions", "to_fp16",
    "variants", "with_provenance",
]  # fmt: skip
