"""Messages that reach somebody who did not ask for them: where it is not known what a framework was doing."""

from __future__ import annotations

from collections.abc import Sequence

from mlconv.errors import MlconvError, SourceDoesNotRun
from mlconv.messages import keras_words, litert_words, onnxruntime_words, tensorflow_words, torch_words
from mlconv.messages.python_words import PYTHON
from mlconv.messages.table import Message, Scene, recognised
from mlconv.tensors import TensorSpec

_LOADING = (
    PYTHON,
    onnxruntime_words.LOAD,
    litert_words.LOAD,
    torch_words.LOAD,
    keras_words.LOAD,
    tensorflow_words.LOAD,
)
_RUNNING: dict[str, Sequence[Message]] = {
    "onnxruntime-cpu": onnxruntime_words.RUN,
    "litert-cpu": litert_words.RUN,
    "tensorflow-cpu": tensorflow_words.RUN,
    "keras-cpu": tensorflow_words.RUN,
    "torch-cpu": torch_words.RUN,
}


def from_job(text: str, ref: str) -> MlconvError | None:
    """What an exception means that a job raised and no one there translated; None where no table knows it."""
    return recognised(text, Scene(ref), *_LOADING)


def from_run(error: Exception, runner: str, inputs: Sequence[TensorSpec]) -> SourceDoesNotRun | None:
    """Why a runner does not run a source on these inputs, where its table knows that."""
    table = _RUNNING.get(runner)
    known = recognised(error, Scene("the source", runner, tuple(inputs)), table) if table else None
    if not isinstance(known, SourceDoesNotRun):
        return None
    if table is onnxruntime_words.RUN:
        known.why = onnxruntime_words.plain(str(error))
    return known
