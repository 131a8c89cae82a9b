"""tf2onnx's and TensorFlow's failures in our own words."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mlconv.convert.job import Job
from mlconv.errors import ConverterFailed, MlconvError, OpsetOutOfReach, UnsupportedOperator

DEFAULT_OPSET = 18


def unsupported(ref: str, operators: Sequence[str], why: str | None = None) -> UnsupportedOperator:
    """The error that names every operator without an ONNX form, e.g. ``HASHTABLE_LOOKUP (#12)``."""
    count = "1 operator" if len(operators) == 1 else f"{len(operators)} operators"
    return UnsupportedOperator(
        f"{count} of `{ref}` {'has' if len(operators) == 1 else 'have'} no ONNX form: {', '.join(operators)}", why=why,
        fix="cut the model before them with --outputs, or see mlconv explain MLC214",
    )  # fmt: skip


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
    text = decisive_line(error)
    asked = job.options.opset or DEFAULT_OPSET
    if re.search(
        r"opset\s*(version\s*)?\d+ is required|(requires?|needs?|minimum) opset|opset \d+ or higher",
        text,
        re.IGNORECASE,
    ):
        return OpsetOutOfReach(
            f"`{job.source.ref}` cannot be written at opset {asked}",
            why=text.partition(" Consider")[0],
            fix=f"--opset {DEFAULT_OPSET}",
        )
    if re.search(r"2 ?GB|string too long|exceeds maximum protobuf", text, re.IGNORECASE):
        return ConverterFailed(f"`{job.source.ref}` is larger than the 2 GB that TensorFlow's graphs may hold", why=text,
                               fix="convert it in parts, each a SavedModel of its own")  # fmt: skip
    if "lookup tables" in text:
        return UnsupportedOperator(
            f"a lookup table of `{job.source.ref}` has no ONNX form", why=text.partition("failure: ")[2] or text,
            fix="cut the model behind it with --outputs, or see mlconv explain MLC214",
        )  # fmt: skip
    return ConverterFailed(f"tf2onnx cannot convert `{job.source.ref}`", why=text,
                           fix="--outputs with an earlier tensor, to keep the part that converts; the log has the details")  # fmt: skip


_HEADINGS = ("Traceback", "File ", "Arguments received", "Exception encountered when calling", "in user code")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def decisive_line(error: BaseException) -> str:
    """The line of a framework's message that says what happened: the first that is no heading."""
    lines = [line.strip() for line in _COLOUR.sub("", str(error)).splitlines() if line.strip()]
    telling = [line for line in lines if not line.endswith(":") and not line.startswith(_HEADINGS)]
    return f"{type(error).__name__}: {(telling or lines or ['without a message'])[0][:300]}"
