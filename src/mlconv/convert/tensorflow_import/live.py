"""A Keras model of the caller's process as a source. It is read and called; variables that this moves are put back."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mlconv.convert.job import Converted, Job, Options
from mlconv.convert.live import Live
from mlconv.convert.tensorflow_import.keras_files import KerasModel
from mlconv.errors import BadUsage, KeepsState, ShapesNeeded, SourceDoesNotRun, listed
from mlconv.formats import ModelFile
from mlconv.runners.base import Feeds, Runner
from mlconv.runners.tensorflow import dtype_name
from mlconv.tensors import Axis, TensorSpec

_MODES = frozenset({"training", "mask"})
"""Parameters of ``call`` that are no inputs."""


def take(model: Any, example: object, folder: Path) -> Live:
    """A Keras model as a source.

    Args:
        example: A tensor or array, a tuple or list of them in the order of the inputs, or a mapping by their names.
            Needed where the model was never told its inputs: one of a class of its own.

    Raises:
        SourceDoesNotRun: Keras runs on another backend than TensorFlow.
        ShapesNeeded: Neither the model nor an example tells the shapes.
    """
    keras = _keras_of(model)
    backend = keras.backend.backend()
    if backend == "torch":
        from mlconv.convert.torch_import import live as torch_live

        return torch_live.take(model, example, folder)
    if backend != "tensorflow":
        raise SourceDoesNotRun(
            f"the model runs on Keras' {backend} backend, and is converted on TensorFlow's",
            fix="model.save('model.keras'), and convert that file: it is loaded on TensorFlow",
        )
    name = _name(model)
    room = _Room(f"<{name}>", model, keras, example)
    return Live(ModelFile(f"<{name}>", None, "keras"), name, _identity(model), _digest(model), room)


@dataclass(frozen=True, slots=True)
class _Room:
    """See ``convert.live.Room``.

    Attributes:
        held: The variables by identity, each with its value before anything ran.
    """

    ref: str
    model: Any
    keras: Any
    example: object
    held: dict[int, tuple[Any, Any]] = field(default_factory=dict)

    def convert(self, job: Job) -> Converted:
        from mlconv.convert.keras_to_onnx import convert_model

        loaded, feeds = self._loaded(job.options)
        converted = convert_model(loaded, job)
        converted.weights = "live"
        converted.example = dict(feeds)
        return converted

    def runner(self, options: Options) -> tuple[Runner, Feeds]:
        from mlconv.convert.keras_to_onnx import runner_of

        loaded, feeds = self._loaded(options)
        return runner_of(loaded, options), feeds

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[None]:
        """TensorFlow's state, and the model's variables.

        Raises:
            KeepsState: A run assigned to weights; the seeds of generators go back without a word.
        """
        known = {id(variable): (variable, np.array(variable.numpy())) for variable in _variables(self.model)}
        self.held.update(known)
        try:
            with self._switches():
                yield
        except BaseException:
            self._put_back()
            raise
        moved = self._put_back()
        if moved:
            raise KeepsState(
                f"call assigns to {len(moved)} weights of the model: {listed(moved, 4)}",
                why="an ONNX graph keeps nothing between two runs; the weights are as they were",
                fix="let call take the state as an input and return it as an output; training=True in a layer's call keeps statistics",
            )

    def _put_back(self) -> list[str]:
        """Assign what was held to the variables that moved; the names of those that are weights."""
        weights = {id(weight) for weight in self.model.weights}
        moved: list[str] = []
        for key, (variable, value) in self.held.items():
            if variable.numpy().tobytes() != value.tobytes():
                variable.assign(value)
                moved += [str(getattr(variable, "path", variable.name))] if key in weights else []
        self.held.clear()
        return moved

    @contextlib.contextmanager
    def _switches(self) -> Iterator[None]:
        loggers = [logging.getLogger(name) for name in ("tensorflow", "tf2onnx", "absl")]
        levels = [logger.level for logger in loggers]
        environment = {
            name: os.environ.get(name)
            for name in ("KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS")
        }
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            with _without_native_chatter():
                yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
            for name, value in environment.items():
                os.environ.pop(name, None) if value is None else os.environ.update({name: value})

    def _loaded(self, options: Options) -> tuple[KerasModel, Feeds]:
        """The model with symbolic inputs, and the example by their names."""
        from mlconv.convert.keras_to_onnx import signature

        if getattr(self.model, "inputs", None):
            loaded = KerasModel(self.model, self.keras)
            inputs, _ = signature(loaded)
            arrays = (
                {}
                if self.example is None
                else _by_name(self.example, [spec.name for spec in inputs], self.keras)
            )
        else:
            model, arrays = _with_inputs(self.model, self.keras, self.example, options, self.ref)
            for variable in _variables(self.model):  # those that building it made
                self.held.setdefault(id(variable), (variable, np.array(variable.numpy())))
            loaded = KerasModel(model, self.keras)
            inputs, _ = signature(loaded)
        return loaded, {spec.name: _fitting(arrays[spec.name], spec) for spec in inputs if arrays}


_CHATTER = re.compile(
    rb"([IW]\d{4} [\d:.]+ +\d+ |[\d-]{10} [\d:.]+: [IW] |WARNING: All log messages before absl|To enable the following)"
)
"""How TensorFlow's native code begins a line that is for its developers: information and warnings, no errors."""


@contextlib.contextmanager
def _without_native_chatter() -> Iterator[None]:
    """Keep TensorFlow's native log from the terminal or notebook; every other line of stderr is written afterwards.

    TensorFlow reads TF_CPP_MIN_LOG_LEVEL at its import, which has been.
    """
    with tempfile.TemporaryFile() as kept:
        sys.stderr.flush()
        own = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(own, 2)
            kept.seek(0)
            rest = b"".join(line for line in kept if line.strip() and not _CHATTER.match(line))
            if rest:
                os.write(own, rest)
            os.close(own)


# ------------------------------------------------------------------ the model


def _keras_of(model: Any) -> Any:
    """The Keras that a model is of."""
    for name in ("keras", "tf_keras"):
        keras = sys.modules.get(name)
        if keras is not None and isinstance(model, keras.Model):
            return keras
    raise AssertionError(type(model))  # ``convert.live.take`` has looked


def _variables(model: Any) -> list[Any]:
    """Weights and the seeds of generators; a model that was never built has none yet."""
    return list({id(variable): variable for variable in (*model.weights, *model.variables)}.values())


def _name(model: Any) -> str:
    """The model's own name; one that Keras gave it counts its models, so that the class stands in its place."""
    kind = type(model).__name__
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind).lower()
    given = re.sub(r"_\d+$", "", model.name) in (snake, "functional", "model", "sequential")
    return kind if given and kind not in ("Functional", "Sequential") else snake if given else str(model.name)


def _identity(model: Any) -> str:
    """The class with its layers and the shapes of its weights; the names that Keras counts up are left out."""
    kind = type(model)
    layers = [type(layer).__name__ for layer in model.layers]
    shapes = [tuple(weight.shape) for weight in model.weights]
    told = ("keras", kind.__module__, kind.__qualname__, layers, shapes)
    return hashlib.sha256(repr(told).encode()).hexdigest()


def _digest(model: Any) -> str:
    """SHA-256 of the weights in the model's order: of each its dtype, shape and bytes."""
    hashed = hashlib.sha256()
    for weight in model.weights:
        array = np.ascontiguousarray(weight.numpy())
        hashed.update(f"{array.dtype.name}:{list(array.shape)}\n".encode())
        hashed.update(array.tobytes())
    return hashed.hexdigest()


# ------------------------------------------------------------------ a model that was never told its inputs


def _with_inputs(
    model: Any, keras: Any, example: object, options: Options, ref: str
) -> tuple[Any, dict[str, Any]]:
    """A functional model that calls this one, with inputs as the example and the options tell them; the example by name.

    The model is called within a layer, so that it gets no node of a graph that is not its own.

    Raises:
        ShapesNeeded: There is no example.
        BadUsage: The example is not what ``call`` takes.
    """
    if example is None:
        raise ShapesNeeded(
            f"`{ref}` does not tell the shapes of its inputs", why="it is a model of its own class",
            fix=f"example=({', '.join(_parameters(model))},) with arrays as call takes them",
        )  # fmt: skip
    args, kwargs = _call(model, example)
    nest = _tree(keras)
    arrays = [_array(leaf) for leaf in nest.flatten((args, kwargs))]
    names = _leaf_names(model, args, kwargs, keras)
    if not model.built:
        positional, by_name = nest.pack_sequence_as((args, kwargs), arrays)
        model(*positional, **by_name, training=False)

    class Inner(keras.layers.Layer):  # type: ignore[misc]
        def call(self, flat: Any) -> Any:
            positional, by_name = nest.pack_sequence_as((args, kwargs), list(flat))
            return model(*positional, **by_name, training=False)

    given = _asked_axes(names, options)
    symbols = []
    for name, array in zip(names, arrays, strict=True):
        shape = [
            None if isinstance(dim, Axis) else size for dim, size in _paired(given.get(name), array.shape)
        ]
        symbols.append(keras.Input(batch_shape=tuple(shape), dtype=dtype_name(array.dtype), name=name))
    return keras.Model(symbols, Inner(name="live")(symbols)), dict(zip(names, arrays, strict=True))


def _asked_axes(names: list[str], options: Options) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, option in enumerate(options.input):
        name = option.name if option.name is not None else names[number] if number < len(names) else None
        if name is not None:
            found[name] = option.dims
    return found


def _paired(dims: Any, shape: Any) -> list[tuple[Any, int]]:
    """Sizes of the example beside what the options say; a wrong number of axes is told later, in words."""
    if dims is None or len(dims) != len(shape):
        return [(size, size) for size in shape]
    return list(zip(dims, shape, strict=True))


def _parameters(model: Any) -> list[str]:
    named = inspect.signature(model.call).parameters.values()
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in named if p.kind not in kinds and p.name not in _MODES] or ["inputs"]


def _call(model: Any, example: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of ``call``: a mapping by its parameters, a tuple by position where it has so many, else one argument."""
    parameters = _parameters(model)
    if isinstance(example, Mapping) and set(example) == set(parameters[: len(example)]):
        return tuple(example[name] for name in parameters[: len(example)]), {}
    if isinstance(example, Mapping) and set(example) <= set(parameters):
        return (), dict(example)
    if isinstance(example, (tuple, list)):
        if len(example) == 1 or 1 < len(example) <= len(parameters):
            return tuple(example), {}
        if len(parameters) > 1:
            raise BadUsage(
                f"the example has {len(example)} values, and call takes {listed(parameters)}",
                fix=f"example=({', '.join(parameters)},)",
            )
    return (example,), {}


def _leaf_names(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], keras: Any) -> list[str]:
    """The parameter of each array, with its key where the parameter takes several."""
    parameters = _parameters(model)
    names: list[str] = []
    given = [*zip(parameters, args, strict=False), *((name, kwargs[name]) for name in sorted(kwargs))]
    for name, value in given:
        leaves = _tree(keras).flatten(value)
        if isinstance(value, Mapping):
            names += (
                [str(key) for key in sorted(value)] if len(leaves) == len(value) else _counted(name, leaves)
            )
        else:
            names += [name] if len(leaves) == 1 else _counted(name, leaves)
    return names


def _counted(name: str, leaves: list[Any]) -> list[str]:
    return [f"{name}_{number}" for number in range(len(leaves))]


# ------------------------------------------------------------------ the example


def _tree(keras: Any) -> Any:
    import tensorflow as tf

    return tf.nest if keras.__name__ == "tf_keras" else keras.tree


def _array(leaf: Any) -> Any:
    """Numpy's form of what Keras takes; Python numbers are float32, as Keras makes them."""
    array = np.asarray(leaf.numpy() if hasattr(leaf, "numpy") else leaf)
    return (
        array
        if isinstance(leaf, (np.ndarray, np.generic)) or hasattr(leaf, "numpy") or array.dtype != np.float64
        else array.astype(np.float32)
    )


def _by_name(example: object, names: list[str], keras: Any) -> dict[str, Any]:
    """The arrays of an example by input name.

    Raises:
        BadUsage: There are more or fewer than inputs.
    """
    if isinstance(example, Mapping) and set(example) == set(names):
        return {name: _array(example[name]) for name in names}
    leaves = [_array(leaf) for leaf in _tree(keras).flatten(example)]
    if len(leaves) != len(names):
        raise BadUsage(
            f"the example has {len(leaves)} arrays, and the model takes {len(names)}: {listed(names)}",
            fix=f"example={{{', '.join(f'{name!r}: ...' for name in names)}}}",
        )
    return dict(zip(names, leaves, strict=True))


def _fitting(array: Any, spec: TensorSpec) -> Any:
    """In the input's dtype, as Keras casts what it is called with.

    Raises:
        BadUsage: Its shape is not the input's.
    """
    shape = spec.shape
    if shape is not None and (
        len(shape) != array.ndim
        or any(isinstance(d, int) and d != n for d, n in zip(shape, array.shape, strict=True))
    ):
        raise BadUsage(
            f"the example's `{spec.name}` has the shape {list(array.shape)}, and the model takes {list(shape)}",
            fix=f"an example of the shape {[1 if dim is None else dim for dim in shape]}",
        )
    return array if spec.dtype == "str" else array.astype(spec.dtype)
