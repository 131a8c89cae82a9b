"""The ranges of integer inputs that a source itself tells: the rows of the tables that they index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mlconv.convert.job import Options
from mlconv.formats import ModelFile
from mlconv.runners.base import Runner
from mlconv.tensors import Axis, TensorSpec, axes_of, limits_of


def with_ranges(
    inputs: Sequence[TensorSpec], model: ModelFile, runner: Runner, graph: Path | None = None
) -> tuple[TensorSpec, ...]:
    """The inputs with the ranges that the model tells, where nothing has told them yet.

    Args:
        graph: The ONNX graph that the model became, where it is none itself.
    """
    if all(spec.values is not None or not is_integer(spec) for spec in inputs):
        return tuple(inputs)
    onnx_file = model.path if model.format == "onnx" else graph
    found: Mapping[str, tuple[int, int]] = {}
    if onnx_file is not None:
        found = _of_onnx(onnx_file)
    elif model.format in ("keras", "keras-h5", "saved-model"):
        found = _of_tensorflow(runner, inputs)
    return tuple(
        replace(spec, values=(float(found[spec.name][0]), float(found[spec.name][1])))
        if spec.values is None and spec.name in found
        else spec
        for spec in inputs
    )


def axes_for(runner: Runner, inputs: tuple[TensorSpec, ...], options: Options) -> dict[str, Axis]:
    """The dynamic axes of the inputs, with the ranges that the source tells and those of `--input` over them."""
    own = axes_of(inputs)
    told: dict[str, Axis] = getattr(runner, "axes", {})
    given = axes_of(inputs, options.input, ranged_only=True)
    return {**own, **{name: axis for name, axis in told.items() if name in own}, **given}


def is_integer(spec: TensorSpec) -> bool:
    return spec.dtype != "bool" and limits_of(spec.dtype) is not None


def _of_onnx(path: Path) -> dict[str, tuple[int, int]]:
    import onnx

    from mlconv.formats.onnx_file import value_ranges

    return value_ranges(onnx.load(path, load_external_data=False))


def _of_tensorflow(runner: Runner, inputs: Sequence[TensorSpec]) -> dict[str, tuple[int, int]]:
    from mlconv.convert.tensorflow_import.tables import table_ranges
    from mlconv.runners.tensorflow import TensorFlowRunner

    return table_ranges(runner.call, inputs) if isinstance(runner, TensorFlowRunner) else {}
