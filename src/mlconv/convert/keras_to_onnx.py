"""Keras models, `.keras` and `.h5`, of Keras 3 and 2 -> ONNX.

The model is exported as a SavedModel first: of the ways into tf2onnx that is the one which loses nothing. From a
function, captured constants become extra inputs; from the model itself, tf2onnx reads attributes that Keras 3 lacks.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from mlconv.convert.job import Converted, Job, Options
from mlconv.convert.tensorflow_import import text_layers
from mlconv.convert.tensorflow_import.graph import (
    PACKAGES,
    Frozen,
    convert_frozen,
    freeze_function,
    laid_over,
)
from mlconv.convert.tensorflow_import.keras_files import KerasModel, load
from mlconv.convert.tensorflow_import.keras_inputs import with_inputs
from mlconv.convert.tensorflow_import.signature import Port, chosen
from mlconv.convert.tensorflow_import.words import decisive_line
from mlconv.errors import ConverterFailed, UnsupportedOperator, UnsupportedType, listed
from mlconv.formats import ModelFile
from mlconv.runners.base import Runner
from mlconv.runners.tensorflow import (
    TensorFlowRunner,
    dims,
    dtype_name,
    outputs_apart,
    tensorflow,
    tf_dtype,
    unique,
)
from mlconv.tensors import TensorSpec, show_shape


def run(job: Job) -> Converted:
    """Convert a Keras file."""
    keras = with_inputs(load(job.source, job.options, job.scratch), job.options)
    return convert_model(keras, job)


def open_runner(model: ModelFile, options: Options) -> Runner:
    with tempfile.TemporaryDirectory() as scratch:
        keras = with_inputs(load(model, options, Path(scratch)), options)
    return runner_of(keras, options)


def runner_of(keras: KerasModel, options: Options) -> Runner:
    """A model that is loaded as a runner."""
    inputs, outputs = signature(keras)
    ports = laid_over([Port(spec.name, spec) for spec in inputs], options)
    return _runner(keras, tuple(port.spec for port in ports), outputs)


def convert_model(keras: KerasModel, job: Job) -> Converted:
    """Convert a model that is loaded."""
    inputs, outputs = signature(keras)
    wanted = chosen([Port(spec.name, spec) for spec in outputs], job.options.outputs)
    ports = laid_over([Port(spec.name, spec) for spec in inputs], job.options)
    try:
        frozen = _frozen(keras, [port.spec for port in ports], outputs, [port.spec for port in wanted], job)
    except Exception as error:  # tracing runs every layer's own code
        raise ConverterFailed(
            f"Keras cannot export `{job.source.ref}` at the shapes {', '.join(f'{port.spec.name}={show_shape(port.spec.shape)}' for port in ports)}",
            why=decisive_line(error), fix="--input NAME=1,... with fixed sizes",
        ) from error  # fmt: skip
    try:
        inputs, outputs = convert_frozen(frozen, job)
    except UnsupportedOperator as error:
        raise text_layers.explained(keras, job.source.ref, error) from error
    warnings = [*keras.warnings, *_state_told(keras.model)]
    return Converted(
        inputs,
        outputs,
        _runner(keras, inputs, outputs),
        "tf2onnx",
        (*PACKAGES, *(("tf_keras",) if keras.is_keras_2 else ())),
        warnings,
    )


def signature(keras: KerasModel) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs in the model's order, and outputs by their keys, else by the layers that make them.

    Raises:
        UnsupportedType: An input is ragged or sparse.
    """
    model = keras.model
    odd = [
        tensor.name
        for tensor in model.inputs
        if getattr(tensor, "ragged", False) or (getattr(tensor, "sparse", False) is True)
    ]
    if odd:
        raise UnsupportedType(
            f"`{model.name}` takes ragged or sparse tensors: {listed(odd)}",
            fix="build the model on dense inputs",
        )
    inputs = unique(_input_names(keras))
    outputs = _output_names(keras)
    ins = tuple(_spec(name, tensor) for name, tensor in zip(inputs, model.inputs, strict=True))
    outs = tuple(_spec(name, tensor) for name, tensor in zip(outputs, model.outputs, strict=True))
    return ins, outputs_apart(ins, outs)


def _spec(name: str, tensor: Any) -> TensorSpec:
    import tensorflow as tf

    return TensorSpec(name, dims(tf.TensorShape(tensor.shape)), dtype_name(tensor.dtype))


def _input_names(keras: KerasModel) -> list[str]:
    if keras.is_keras_2:
        return list(keras.model.input_names)
    return [_layer(tensor) or tensor.name for tensor in keras.model.inputs]


def _output_names(keras: KerasModel) -> list[str]:
    if keras.is_keras_2:
        made = _structure(keras.model, "output")
        return sorted(made) if isinstance(made, dict) else list(keras.model.output_names)
    paths = keras.keras.tree.flatten_with_path(_structure(keras.model, "output"))
    return [
        "_".join(map(str, path)) if any(isinstance(step, str) for step in path) else _layer(tensor) or tensor.name
        for path, tensor in paths
    ]  # fmt: skip


def _structure(model: Any, side: Literal["input", "output"]) -> Any:
    """What the model takes or gives: a tensor, or a list or dict of them. A Sequential model does not say, and has one."""
    try:
        return getattr(model, side)
    except AttributeError:
        return getattr(model, f"{side}s")[0]


def _layer(tensor: Any) -> str | None:
    """The layer that makes a symbolic tensor, or None where Keras does not say."""
    history = getattr(tensor, "_keras_history", None)
    return getattr(getattr(history, "operation", None), "name", None)


# ------------------------------------------------------------------ Keras to a frozen graph


def _frozen(
    keras: KerasModel,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    wanted: Sequence[TensorSpec],
    job: Job,
) -> Frozen:
    """The model exported under names of our own (users' names may be anything), loaded again, and frozen."""
    tf = tensorflow()
    folder = job.scratch / "exported"
    arguments = [f"in_{index:04d}" for index in range(len(inputs))]
    results = [f"out_{index:04d}" for index in range(len(outputs))]
    call = _flat_call(keras)
    archive = keras.keras.export.ExportArchive()
    archive.track(keras.model)
    archive.add_endpoint(
        "serving_default", lambda *flat: dict(zip(results, map(tf.identity, call(flat)), strict=True)),
        input_signature=[tf.TensorSpec(_sizes(spec), tf_dtype(spec.dtype), name=name)
                         for name, spec in zip(arguments, inputs, strict=True)],
    )  # fmt: skip
    archive.write_out(str(folder), **({} if keras.is_keras_2 else {"verbose": False}))
    imported = tf.saved_model.load(str(folder))
    kept = {result: spec for result, spec in zip(results, outputs, strict=True) if spec in wanted}
    frozen = freeze_function(
        imported, imported.signatures["serving_default"], dict(zip(arguments, inputs, strict=True)), kept
    )
    by_name = {port.spec.name: port for port in frozen.outputs}
    return replace(frozen, outputs=tuple(by_name[spec.name] for spec in wanted), outputs_share_batch=True)


def _sizes(spec: TensorSpec) -> list[int | None] | None:
    return None if spec.shape is None else [dim if isinstance(dim, int) else None for dim in spec.shape]


def _flat_call(keras: KerasModel) -> Callable[[Sequence[Any]], list[Any]]:
    """Inputs in the signature's order to outputs in the signature's order, at inference."""
    model = keras.model
    flatten, pack = _tree(keras)
    structure = _structure(model, "input")

    def call(flat: Sequence[Any]) -> list[Any]:
        return list(flatten(model(pack(structure, list(flat)), training=False)))

    return call


def _tree(keras: KerasModel) -> tuple[Callable[[Any], list[Any]], Callable[[Any, list[Any]], Any]]:
    import tensorflow as tf

    nest = tf.nest if keras.is_keras_2 else keras.keras.tree
    return nest.flatten, nest.pack_sequence_as


def _runner(keras: KerasModel, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> Runner:
    tf = tensorflow()
    call = _flat_call(keras)
    names = [spec.name for spec in signature(keras)[1]]
    dtypes = {spec.name: tf_dtype(spec.dtype) for spec in inputs}
    state = [(variable, variable.numpy()) for layer in _stateful(keras.model) for variable in layer.states]

    def run_once(feeds: dict[str, Any]) -> Any:
        for variable, value in state:
            variable.assign(value)
        return dict(
            zip(
                names,
                call([tf.convert_to_tensor(array, dtypes[name]) for name, array in feeds.items()]),
                strict=True,
            )
        )

    return TensorFlowRunner("keras-cpu", inputs, outputs, run_once)


def _stateful(model: Any) -> list[Any]:
    """Recurrent layers that carry their state from one call to the next."""
    layers = model._flatten_layers()  # noqa: SLF001  the only walk that both Keras versions have and that enters wrappers
    return [
        layer
        for layer in layers
        if getattr(layer, "stateful", False) and isinstance(getattr(layer, "states", None), list)
    ]


def _state_told(model: Any) -> list[str]:
    names = [layer.name for layer in _stateful(model)]
    if not names:
        return []
    return [
        f"state of {listed(names)} is not kept from run to run: the artifact begins from the state that the file holds"
    ]
