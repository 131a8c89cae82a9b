"""What onnxruntime says as it loads a graph and as it runs one."""

from __future__ import annotations

import re
from collections.abc import Callable

from mlconv.errors import (
    InputsRefused,
    InvalidGraph,
    MlconvError,
    NoKernel,
    OutdatedPackage,
)
from mlconv.messages.table import Message, Scene
from mlconv.tensors import show_shape, typed

_LONGEST = 400
_CODE = re.compile(r"^\d+ : \w+ : ")
_RUNNING = re.compile(
    r"^Non-zero status code returned while running (\w+) node\. Name:'([^']*)' Status Message: "
)
_ITS_SOURCES = re.compile(
    r"^(?:/onnxruntime_src/|[A-Z]:\\|/Users/)\S*:\d+ (?:.*? was false\. |.*\) )?|^\w+\.(?:h|cc):\d+ "
)
_REPEATED = ("[ONNXRuntimeError] : ", "This is an invalid model. ", "Exception during initialization: ")


def plain(text: str) -> str:
    """What onnxruntime says, on one line, without codes, paths of its sources and repetition; the node that fails comes first."""
    text = " ".join(text.split())
    for prefix in _REPEATED:
        text = text.replace(prefix, "")
    text = _CODE.sub("", text)
    if text.startswith("Load model from ") and " failed:" in text:
        text = text.partition(" failed:")[2]
    text = text.removeprefix("Error: ").removeprefix("This is an invalid model. ").removeprefix("Error: ")
    running = _RUNNING.match(text)
    node = f"{running[1]}{f' `{running[2]}`' if running[2] else ''}: " if running else ""
    said = _ITS_SOURCES.sub("", text[running.end() :] if running else text)
    return (node + (said or text))[:_LONGEST]


# ------------------------------------------------------------------ loading


def _invalid(what: str, fix: str) -> Callable[[re.Match[str], Scene], MlconvError]:
    """A graph that contradicts itself; ``what`` and ``fix`` may hold the pattern's groups."""

    def tell(match: re.Match[str], scene: Scene) -> MlconvError:
        groups = {name: value or "?" for name, value in match.groupdict().items()}
        return InvalidGraph(
            f"the graph of `{scene.ref}` is not valid: {what.format(**groups)}", fix=fix.format(**groups)
        )

    return tell


_EXPORT_AGAIN = "export it again with the tool that made it; mlconv check shows every fault"


def _no_kernel(match: re.Match[str], _scene: Scene) -> MlconvError:
    name = f" (`{match['name']}`)" if match["name"] else ""
    return NoKernel(
        f"onnxruntime has no kernel for {match['op']} of opset {match['since']}{name} in the type that it computes in",
        fix="let the model compute in float32 where it was made (model.float(), .astype('float32')), and export it again",
    )  # fmt: skip


def _later(_match: re.Match[str], scene: Scene) -> MlconvError:
    return OutdatedPackage(
        f"`{scene.ref}` is newer than the installed onnxruntime", fix="pip install -U onnxruntime onnx"
    )


LOAD: tuple[Message, ...] = (
    Message(r"Could not find an implementation for (?:the node )?(?P<op>[\w.:]+)\((?P<since>\d+)\)(?: node with name '(?P<name>[^']*)')?",
            _no_kernel),
    Message(r"Unsupported model IR version|is under development and support for this is limited|invalid version \(must be between", _later),
    Message(r"Type parameter \(\w+\) of Optype \((?P<op>\w+)\) bound to different types \((?P<types>.+?\)) in node \((?P<node>[^)]*)\)",
            _invalid("the inputs of {op} are of different types ({types})",
                     "put a Cast before it where the model was made, and export it again")),
    Message(r"Type '(?P<type>tensor\(\w+\))' of input parameter \((?P<input>[^)]*)\) of operator \((?P<op>\w+)\)",
            _invalid("{op} does not take {type}, of which `{input}` is",
                     "cast it where the model was made, and export it again")),
    Message(r"Unrecognized attribute: (?P<name>\w+) for operator (?P<op>\w+)",
            _invalid("{op} has no attribute `{name}` at the opset that the file tells",
                     "save it with the opset that its operators are of (ReduceSum's axes: below 13); mlconv check shows every fault")),
    Message(r"(?P<what>Incompatible dimensions[^\n]*|\[ShapeInferenceError\][^\n]*)", _invalid("{what}", _EXPORT_AGAIN)),
)  # fmt: skip


# ------------------------------------------------------------------ running


def _axes(scene: Scene) -> str:
    """`--input` for each input, in its own shape."""
    return (
        " ".join(typed(spec.name, show_shape(spec.shape)) for spec in scene.inputs[:3])
        or "--input NAME=DIM,DIM,..."
    )


def _wrong_size(match: re.Match[str], scene: Scene) -> MlconvError:
    node = f" of `{match['name']}`" if match["name"] else ""
    return InputsRefused(
        f"{scene.ref} does not take {scene.given}: the sizes do not fit each other in {match['op']}{node}",
        fix=f"give sizes that the model takes, in place of these: {_axes(scene)}; or --data with inputs of them",
    )  # fmt: skip


def _beyond_table(match: re.Match[str], scene: Scene) -> MlconvError:
    integers = next((spec for spec in scene.inputs if "int" in spec.dtype), None)
    name, shape = (
        (integers.name, f"{show_shape(integers.shape)}:{integers.dtype}")
        if integers
        else ("NAME", "DIM,...:int64")
    )
    return InputsRefused(
        f"an index of {scene.given} lies beyond the table that it looks up: {match['index']}, where {match['high']} is the last",
        fix=typed(name, f"{shape}[0..{match['high']}]"),
    )  # fmt: skip


RUN: tuple[Message, ...] = (
    Message(r"indices element out of data bounds, idx=(?P<index>-?\d+) must be within the inclusive range \[-?\d+,(?P<high>\d+)\]",
            _beyond_table),
    Message(r"running (?P<op>\w+) node\. Name:'(?P<name>[^']*)' Status Message: [\s\S]*?(?:dimension mismatch|BroadcastIterator|axis == 1 \|\|"
            r"|cannot be reshaped|input_shape_size == size|do(?:es)? not match|shape mismatch|[Ii]ncompatible dimensions|must be equal"
            r"|Invalid dimensions|invalid (?:rank|shape))", _wrong_size),
)  # fmt: skip
