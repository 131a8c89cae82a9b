"""Keras models of their author's own class, which do not tell their inputs: given some, they become Functional models."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mlconv.convert.job import Options
from mlconv.convert.tensorflow_import.keras_files import KerasModel
from mlconv.convert.tensorflow_import.words import decisive_line
from mlconv.errors import ConverterFailed, ShapesNeeded
from mlconv.runners.tensorflow import tf_dtype
from mlconv.tensors import Dim, TensorSpec, show_shape, typed, with_input_options

_NO_INPUTS = ("training", "mask", "self", "args", "kwargs")


def with_inputs(keras: KerasModel, options: Options) -> KerasModel:
    """The model itself where it has inputs; else one that calls it on those that `--input` or its build tells.

    Raises:
        ShapesNeeded: Nothing tells a shape; the error names the parameters of ``call``.
        UnknownInput, BadInputOption: `--input` names no parameter of ``call``, or contradicts the build.
        ConverterFailed: The model does not run on them.
    """
    if getattr(keras.model, "inputs", None):
        return keras
    parameters = _parameters(keras.model)
    built = _built(keras.model, parameters)
    specs = _specs(parameters, built, options, keras.model.name)
    tensors = {spec.name: _tensor(keras, spec) for spec in specs}
    try:
        outputs = keras.model(*_arguments(tensors, built, parameters))
        model = keras.keras.Model(list(tensors.values()), outputs, name=keras.model.name)
        if keras.path is not None:
            # Keras passes over the weights of layers that are built by their first call alone, without a word
            keras.model.load_weights(keras.path)
    except Exception as error:  # the author's own `call` raises what it likes
        told = ", ".join(f"{spec.name}={show_shape(spec.shape)}" for spec in specs)
        raise ConverterFailed(
            f"`{keras.model.name}` does not run on {told}", why=decisive_line(error),
            fix="--input NAME=DIM,... with the shape that its call() takes",
        ) from error  # fmt: skip
    return replace(keras, model=model)


def _parameters(model: Any) -> list[str]:
    """What ``call`` takes beyond the flags of Keras."""
    given = inspect.signature(model.call).parameters.values()
    kinds = (
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.KEYWORD_ONLY,
        inspect.Parameter.POSITIONAL_ONLY,
    )
    taken = [one for one in given if one.kind in kinds and one.name not in _NO_INPUTS]
    needed = [one.name for one in taken if one.default is inspect.Parameter.empty]
    return needed or [one.name for one in taken[:1]] or ["inputs"]


def _built(model: Any, parameters: Sequence[str]) -> dict[str, Any]:
    """Shapes, or nests of shapes, by parameter, as the file remembers the build: of Keras 3 a dictionary of one or all."""
    told = getattr(model, "_build_shapes_dict", None) or {}
    shapes = {
        parameter: told[key]
        for parameter in parameters
        for key in (f"{parameter}_shape", parameter)
        if key in told
    }
    if not shapes and len(told) == 1:
        shapes = {parameters[0]: next(iter(told.values()))}
    single = getattr(model, "_build_input_shape", None) if not shapes else None
    return {parameters[0]: single} if single is not None else shapes


def _specs(
    parameters: Sequence[str], built: Mapping[str, Any], options: Options, model: str
) -> list[TensorSpec]:
    """One for each tensor that ``call`` takes, with `--input` over what the build tells; axis 0 is the batch."""
    known = [leaf for parameter in parameters for leaf in _leaves(parameter, built.get(parameter))]
    told = tuple(TensorSpec(name, shape, "float32") for name, shape in known)
    specs = with_input_options(told, options.input)
    unknown = [spec.name for spec in specs if spec.shape is None]
    if unknown:
        sizes = "batch,224,224,3" if len(known) == 1 else "batch,8"
        line = " ".join(typed(name, sizes) for name in unknown)
        raise ShapesNeeded(
            f"`{model}` does not tell the shapes of its inputs: {', '.join(f'`{name}`' for name in unknown)}",
            why="it is a model of its author's own class, saved before it was built on inputs",
            fix=f"{line}, with your own sizes; :int32 behind them where it takes integers",
        )  # fmt: skip
    return list(specs)


def _leaves(name: str, built: Any) -> list[tuple[str, tuple[Dim, ...] | None]]:
    """Names and shapes of the tensors inside one parameter: a tensor, or a list or dictionary of them."""
    if isinstance(built, Mapping):
        return [leaf for key, inner in built.items() for leaf in _leaves(str(key), inner)]
    if built is None:
        return [(name, None)]
    sizes = tuple(built)
    if all(size is None or isinstance(size, int) for size in sizes):
        return [(name, (None, *sizes[1:]))]
    return [leaf for index, inner in enumerate(sizes) for leaf in _leaves(f"{name}_{index}", inner)]


def _tensor(keras: KerasModel, spec: TensorSpec) -> Any:
    sizes = tuple(dim if isinstance(dim, int) else None for dim in spec.shape or ())
    return keras.keras.Input(batch_shape=sizes, dtype=tf_dtype(spec.dtype), name=spec.name)


def _arguments(tensors: Mapping[str, Any], built: Mapping[str, Any], parameters: Sequence[str]) -> list[Any]:
    """The tensors packed as ``call`` takes them."""
    return [_packed(parameter, built.get(parameter), tensors) for parameter in parameters]


def _packed(name: str, built: Any, tensors: Mapping[str, Any]) -> Any:
    if isinstance(built, Mapping):
        return {key: _packed(str(key), inner, tensors) for key, inner in built.items()}
    if built is None or all(size is None or isinstance(size, int) for size in built):
        return tensors[name]
    return [_packed(f"{name}_{index}", inner, tensors) for index, inner in enumerate(built)]
