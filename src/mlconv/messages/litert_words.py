"""What LiteRT (TensorFlow Lite) says as it loads a file and as it runs one."""

from __future__ import annotations

import re

from mlconv.errors import InputsRefused, MlconvError, OutdatedPackage, UnsupportedOperator
from mlconv.messages.table import Message, Scene
from mlconv.tensors import show_shape, typed


def _custom(match: re.Match[str], scene: Scene) -> MlconvError:
    return UnsupportedOperator(
        f"`{scene.ref}` has the custom operator `{match['op']}`, which no runtime here has",
        fix="cut the model before it with --outputs, or convert the model that the file was made from",
    )  # fmt: skip


def _flex(_match: re.Match[str], scene: Scene) -> MlconvError:
    return UnsupportedOperator(
        f"`{scene.ref}` has operators of TensorFlow itself (Flex), which LiteRT does not have",
        fix="convert the SavedModel that it was made from, or cut the model before them with --outputs",
    )  # fmt: skip


def _later(match: re.Match[str], scene: Scene) -> MlconvError:
    found = match.groupdict()
    told = (
        f"{found['op']} of version {found['version']}"
        if found.get("op")
        else f"operator number {found.get('number')}"
    )
    return OutdatedPackage(
        f"`{scene.ref}` is newer than the installed LiteRT: it has {told}",
        fix="pip install -U ai-edge-litert; or write the file with an older converter",
    )  # fmt: skip


def _does_not_prepare(match: re.Match[str], scene: Scene) -> MlconvError:
    at = "" if match["op"].endswith("Delegate") else f" in {match['op']} (#{match['index']})"
    return InputsRefused(
        f"{scene.ref} does not take {scene.given}: the sizes do not fit each other{at}",
        fix="leave --input out, which keeps the file's own shapes, or give shapes that the network takes, in place of these: "
        + " ".join(typed(spec.name, show_shape(spec.shape)) for spec in scene.inputs[:3]),
    )  # fmt: skip


LOAD: tuple[Message, ...] = (
    Message(r"Didn't find op for builtin opcode '(?P<op>\w+)' version '(?P<version>\d+)'", _later),
    Message(r"Op builtin_code out of range: (?P<number>\d+)", _later),
    Message(r"Encountered unresolved custom op: Flex\w+|Select TensorFlow op\(s\)", _flex),
    Message(r"Encountered unresolved custom op: (?P<op>[\w.]+?)\.?(?:See|\s|$)", _custom),
)


def _beyond_table(_match: re.Match[str], scene: Scene) -> MlconvError:
    integers = next((spec for spec in scene.inputs if "int" in spec.dtype), None)
    name, shape = (
        (integers.name, f"{show_shape(integers.shape)}:{integers.dtype}")
        if integers
        else ("NAME", "DIM,...:int32")
    )
    return InputsRefused(
        f"an index of {scene.given} lies beyond the table that it looks up",
        fix=f"{typed(name, f'{shape}[0..N]')}, with the table's last row for N",
    )  # fmt: skip


RUN: tuple[Message, ...] = (
    Message(r"index out of bounds", _beyond_table),
    Message(r"Node number (?P<index>\d+) \((?P<op>\w+)\) failed to (?:prepare|invoke)", _does_not_prepare),
)
