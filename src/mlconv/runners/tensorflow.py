"""TensorFlow as a runner: a loaded function of named arrays, and how TensorFlow is brought up quietly."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlconv.runners.base import Feeds, Outputs
from mlconv.tensors import Dim, TensorSpec


def tensorflow() -> Any:
    """The imported package, with its start-up chatter off and Keras bound to it.

    Call this before anything else imports TensorFlow or Keras: both read their environment once.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ["KERAS_BACKEND"] = (
        "tensorflow"  # a user's keras.json may name another, and Keras would import that
    )
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    return tf


@dataclass(slots=True)
class TensorFlowRunner:
    """A source that TensorFlow executes.

    Attributes:
        call: Tensors or arrays by input name, to tensors or arrays by output name.
        release: Frees what ``call`` holds, e.g. a session.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    call: Callable[[dict[str, Any]], Mapping[str, Any]]
    release: Callable[[], object] = lambda: None

    def run(self, feeds: Feeds) -> Outputs:
        given = self.call({spec.name: np.asarray(feeds[spec.name]) for spec in self.inputs})
        return {spec.name: np.asarray(given[spec.name]) for spec in self.outputs}

    def spread(self, feeds: Feeds) -> Outputs | None:  # noqa: ARG002  the protocol's
        return None

    def close(self) -> None:
        self.release()


_DTYPES = {
    "half": "float16", "float": "float32", "double": "float64", "string": "str", "qint8": "int8", "quint8": "uint8",
    "qint16": "int16", "quint16": "uint16", "qint32": "int32",
}  # fmt: skip


def dtype_name(dtype: Any) -> str:
    """The name that numpy gives a ``tf.DType``, its enum's number, or TensorFlow's own name for it; ``str`` for text."""
    from tensorflow import as_dtype

    name = str(as_dtype(dtype).name)
    return _DTYPES.get(name, name.removesuffix("_ref"))


def tf_dtype(name: str) -> str:
    """TensorFlow's name of a dtype, the inverse of ``dtype_name``."""
    return "string" if name == "str" else name


def dims(shape: Any) -> tuple[Dim, ...] | None:
    """Sizes of a ``tf.TensorShape``, with None for what it leaves open; None where it does not know the rank."""
    return None if shape.rank is None else tuple(shape.as_list())


def spec_of(name: str, tensor: Any) -> TensorSpec:
    """The spec of a graph's tensor, a ``tf.TensorSpec`` or a variable."""
    return TensorSpec(name, dims(tensor.shape), dtype_name(tensor.dtype))


# ------------------------------------------------------------------ names


def unique(names: Sequence[str]) -> tuple[str, ...]:
    """Names told apart: the second of a kind gets ``_1`` at its end, the third ``_2``."""
    taken: dict[str, None] = {}
    for name in names:
        candidate, count = name, 0
        while candidate in taken or (count and candidate in names):
            count += 1
            candidate = f"{name}_{count}"
        taken[candidate] = None
    return tuple(taken)


def outputs_apart(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Outputs under names of their own: one that is called like an input gets ``_1`` at its end.

    TensorFlow keeps inputs and outputs apart; in an ONNX graph a name stands for one tensor.
    """
    names = unique([spec.name for spec in (*inputs, *outputs)])[len(inputs) :]
    return tuple(spec.renamed(name) for spec, name in zip(outputs, names, strict=True))
