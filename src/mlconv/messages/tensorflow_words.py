"""What TensorFlow and tf2onnx say as they load a model, run it and convert it."""

from __future__ import annotations

import re

from mlconv.errors import (
    ConverterFailed,
    ExternalDataMissing,
    InputsRefused,
    MlconvError,
    OpsetOutOfReach,
    UnsupportedOperator,
)
from mlconv.messages.table import Message, Scene
from mlconv.tensors import show_shape, typed

# ------------------------------------------------------------------ loading


def _no_variables(_match: re.Match[str], scene: Scene) -> MlconvError:
    return ExternalDataMissing(
        f"the folder `variables` of `{scene.ref}`, which holds its weights, is missing or empty",
        fix=f"copy the whole SavedModel, `{scene.ref}/variables` with it, from where it was saved",
    )  # fmt: skip


def _foreign_operator(match: re.Match[str], scene: Scene) -> MlconvError:
    return UnsupportedOperator(
        f"`{scene.ref}` uses the operator `{match['op']}`, which this TensorFlow does not have",
        why="it comes from a library of its own, such as tensorflow_text, and has no ONNX form",
        fix="--signature with an entry point that does without it, or save the part of the model behind it",
    )  # fmt: skip


LOAD: tuple[Message, ...] = (
    Message(r"(Failed to find any matching files for|No such file or directory[;:]?|Could not find) \S*variables/variables|"
            r"Unsuccessful TensorSliceReader constructor", _no_variables),
    Message(r"Op type not registered '(?P<op>[\w>]+)'", _foreign_operator),
)  # fmt: skip


# ------------------------------------------------------------------ running


def _refused(_match: re.Match[str], scene: Scene) -> MlconvError:
    shapes = " ".join(typed(spec.name, show_shape(spec.shape)) for spec in scene.inputs[:3])
    return InputsRefused(
        f"{scene.ref} does not take {scene.given}: the sizes do not fit each other",
        fix=f"give sizes that the model takes, in place of these: {shapes or '--input NAME=DIM,...'}; or --data with inputs of them",
    )  # fmt: skip


RUN: tuple[Message, ...] = (
    Message(r"Input to reshape is a tensor with \d+ values|[Ii]ncompatible shapes|Matrix size-incompatible|Dimensions? must be equal"
            r"|indices\[[\d, ]*\] = -?\d+ is not in \[0, \d+\)|is incompatible with the layer", _refused),
)  # fmt: skip


# ------------------------------------------------------------------ converting


def _later_opset(match: re.Match[str], scene: Scene) -> MlconvError:
    least = next((group for group in match.groups() if group), None)
    return OpsetOutOfReach(
        f"`{scene.ref}` cannot be written at the opset that was asked for"
        + (f": it needs {least} or later" if least else ""),
        fix=f"--opset {least or 18}",
    )


def _too_large(_match: re.Match[str], scene: Scene) -> MlconvError:
    return ConverterFailed(f"`{scene.ref}` is larger than the 2 GB that TensorFlow's graphs may hold",
                    fix="convert it in parts, each a SavedModel of its own")  # fmt: skip


def _table(_match: re.Match[str], scene: Scene) -> MlconvError:
    return UnsupportedOperator(f"a lookup table of `{scene.ref}` has no ONNX form",
                               fix="cut the model behind it with --outputs, or see mlconv explain MLC214")  # fmt: skip


CONVERT: tuple[Message, ...] = (
    Message(
        r"(?i)opset\s*(?:version\s*)?(\d+) is required|(?:requires?|needs?|minimum) opset\D{0,20}(\d+)|opset (\d+) or higher",
        _later_opset,
        untried="of the opsets that can be asked for, 13 and above, tf2onnx 1.17 says it of none",
    ),
    Message(
        r"(?i)2 ?GB|string too long|exceeds maximum protobuf", _too_large, untried="it takes a model of 2 GB"
    ),
    Message(r"lookup tables", _table, untried="tables of strings and numbers convert with tf2onnx 1.17"),
)
