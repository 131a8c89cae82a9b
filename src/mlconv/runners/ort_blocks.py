"""Blocks of channels: what makes an ORT file that is fast on one processor wrong on another.

onnxruntime's NchwcTransformer reorders the weights of convolutions for the vectors of the machine that it runs on: blocks
of 16 channels with AVX-512, else of 8 on x86 (MlasNchwcGetBlockSize, onnxruntime/core/mlas). The file does not tell which,
and a machine with others loads it, runs it and gives wrong answers, seen with onnxruntime 1.31.1 in both directions. So
the provenance tells it, and such a file is not run.

Only a worker imports this module: it imports onnxruntime.
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import onnxruntime

from mlconv.formats import ort_file

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

DOMAIN = "com.microsoft.nchwc"
"""Operators whose weights are reordered."""

PROVENANCE, KEY = "mlconv.provenance", "nchwc_block"
"""The key of the metadata, and that of a converter within it, under which a file that mlconv wrote tells its blocks."""

_ERRORS_ONLY = 3  # onnxruntime.SessionOptions.log_severity_level


class OtherVectors(Exception):
    """The convolutions of an ORT file are laid out for another processor."""


def assert_fits(path: Path) -> None:
    """Refuse a file that this machine would run wrongly; one that does not tell its blocks is not refused.

    Raises:
        OtherVectors: The file was laid out in other blocks than this machine's.
        Corrupt: The bytes are no ORT model.
    """
    model = ort_file.load(path)
    told = {entry.key: entry.value for entry in model.metadata_props}
    made_with = _told(told.get(PROVENANCE, ""))
    if made_with is not None and is_laid_out(model) and made_with != block():
        raise OtherVectors(
            f"its convolutions are laid out in blocks of {made_with} channels, for another processor: this one's have {block()}, "
            "so it would run and give wrong answers; mlconv ort --target-platform arm writes one for all"
        )


def _told(provenance: str) -> int | None:
    try:
        converters = json.loads(provenance)["converters"].values()
        return next((int(made[KEY]) for made in converters if KEY in made), None)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def is_laid_out(model: ModelProto) -> bool:
    """Whether convolutions of the model are laid out for the vectors of one machine."""
    return any(node.domain == DOMAIN for node in nodes(model.graph))


def nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Every operator of a graph and of the graphs within it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from nodes(body)


@functools.cache
def block() -> int | None:
    """How many channels onnxruntime lays out together on this machine; None: it leaves them as they are.

    It tells that nowhere, so a convolution with 17 filters is laid out: they are padded to the next multiple.
    """
    from onnx import TensorProto, helper

    put = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 4, 4])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 17, 4, 4])
    weight = helper.make_tensor("w", TensorProto.FLOAT, [17, 1, 1, 1], [1.0] * 17)
    graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"])], "probe", [put], [out], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.save_model_format", "ORT")
    with tempfile.TemporaryDirectory(prefix="mlconv-probe-") as folder:
        options.optimized_model_filepath = str(Path(folder) / "probe.ort")
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        laid_out = ort_file.load(Path(options.optimized_model_filepath))
    filters = [tensor.dims[0] for tensor in laid_out.graph.initializer if len(tensor.dims) == 4]
    return filters[0] - 16 if is_laid_out(laid_out) and filters else None
