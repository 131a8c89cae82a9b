"""An ONNX model of the caller's process as a source: it is saved, and its file converted like any other."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from mlconv.convert.live import Live
from mlconv.errors import BadUsage
from mlconv.formats import ModelFile


def save(model: Any, example: object, folder: Path) -> Live:
    """Save an ``onnx.ModelProto`` in ``folder``.

    Raises:
        BadUsage: An example was given; or the model's weights lie in files, and it was loaded without them.
    """
    import onnx
    from onnx.external_data_helper import uses_external_data

    if example is not None:
        raise BadUsage("an ONNX model knows its inputs, and takes no example",
                       fix="leave example out; data takes samples to compare on")  # fmt: skip
    outside = [tensor.name for tensor in model.graph.initializer if uses_external_data(tensor)]
    if outside:
        raise BadUsage(
            f"`{outside[0]}` of the model lies in a file beside it, which was not loaded",
            fix="give the path of the .onnx file, or onnx.load it with load_external_data=True",
        )
    path = folder / "model.onnx"
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    onnx.save_model(copy, path, save_as_external_data=copy.ByteSize() >= onnx.checker.MAXIMUM_PROTOBUF)
    shapes = [(tensor.name, tuple(tensor.dims)) for tensor in model.graph.initializer]
    identity = hashlib.sha256(repr(("onnx", model.graph.name, shapes)).encode()).hexdigest()
    name = re.sub(r"[^\w.-]+", "_", model.graph.name).strip("._") or "model"
    return Live(ModelFile(f"<{name}>", path, "onnx"), name, identity)
