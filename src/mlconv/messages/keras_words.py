"""What Keras says as it loads a file."""

from __future__ import annotations

import re

from mlconv.errors import Corrupt, MlconvError, OutdatedPackage
from mlconv.messages.table import Message, Scene


def _later(match: re.Match[str], scene: Scene) -> MlconvError:
    found = {name: value for name, value in match.groupdict().items() if value}
    layer = f" of {found['layer']}" if "layer" in found else ""
    return OutdatedPackage(
        f"`{scene.ref}` uses an argument{layer} that the installed Keras does not know: {found.get('names', '?')}",
        fix="pip install -U keras, where a later Keras wrote the file; or export it where it loads: model.export('folder'), "
        "and convert the folder",
    )  # fmt: skip


def _other_weights(_match: re.Match[str], scene: Scene) -> MlconvError:
    return Corrupt(
        f"the weights in `{scene.ref}` are those of another network than its configuration",
        fix="build the model in Python, model.load_weights(...) of the right file, and model.save('net.keras')",
    )  # fmt: skip


LOAD: tuple[Message, ...] = (
    Message(r"Unrecognized keyword arguments(?: passed to (?P<layer>\w+))?: (?P<names>[\[{][^\]}]*[\]}])", _later),
    Message(r"Layer count mismatch|expected \d+ variables, but received \d+|A total of \d+ objects could not be loaded"
            r"|The shape of the target variable and the shape of the target value", _other_weights),
)  # fmt: skip
