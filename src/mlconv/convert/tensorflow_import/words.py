"""tf2onnx's and TensorFlow's failures in our own words."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mlconv.convert.job import Job
from mlconv.errors import ConverterFailed, MlconvError
from mlconv.messages import Scene, recognised, tensorflow_words

DEFAULT_OPSET = 18


_REASONS = {
    r"(LookupTable|HashTable|Mutable(Dense)?HashTable)": "it looks values up in a table that the graph itself does not hold",
    r"(Ragged|Sparse)": "it makes ragged or sparse tensors, which ONNX does not have",
    r"(Parse(Single)?Example|DecodeRaw|Decode\w+|String\w+|ReduceJoin|RegexReplace)": "it reads text or encoded bytes",
    r"TensorList": "it collects tensors in a list inside a loop that tf2onnx could not rewrite",
    r"(VarHandleOp|ReadVariableOp|VariableV?2?|Assign\w*)$": "it reads or writes variables while it runs",
    r"(PyFunc|EagerPyFunc)": "it calls back into the Python program that made the model",
    r"(Stateful)?PartitionedCall": "it calls a function that TensorFlow would not inline",
}


def reason(unknown: Sequence[tuple[str, str]]) -> str | None:
    for pattern, reason in _REASONS.items():
        match = next((kind for kind, _ in unknown if re.match(pattern, kind)), None)
        if match:
            return f"{match}: {reason}"
    return None


def translated(error: Exception, job: Job) -> MlconvError:
    """What a failure of tf2onnx means; its own words where no table knows them."""
    known = recognised(error, Scene(job.source.ref), tensorflow_words.CONVERT)
    if known is not None:
        return known
    return ConverterFailed(f"tf2onnx cannot convert `{job.source.ref}`", why=decisive_line(error),
                           fix="--outputs with an earlier tensor, to keep the part that converts; the log has the details")  # fmt: skip


_HEADINGS = ("Traceback", "File ", "Arguments received", "Exception encountered when calling", "in user code")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def decisive_line(error: BaseException) -> str:
    """The line of a framework's message that says what happened: the first that is no heading."""
    lines = [line.strip() for line in _COLOUR.sub("", str(error)).splitlines() if line.strip()]
    telling = [line for line in lines if not line.endswith(":") and not line.startswith(_HEADINGS)]
    return f"{type(error).__name__}: {(telling or lines or ['without a message'])[0][:300]}"
