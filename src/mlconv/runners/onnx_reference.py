"""ONNX in onnx's own reference evaluator: numpy, operator by operator.

Slow, and the fallback for sources that onnxruntime refuses for a reason that has nothing to do with what they compute:
an opset or IR version that is newer than the runtime, two nodes of one name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mlconv.runners.base import Feeds, Outputs
from mlconv.runners.onnx_types import NUMPY_NAMES, dims
from mlconv.tensors import TensorSpec

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto


class OnnxReference:
    """A model in `onnx.reference.ReferenceEvaluator`.

    Raises:
        Exception: The evaluator's own, where it lacks an operator of the model.
    """

    name = "onnx-reference"

    def __init__(self, model: ModelProto) -> None:
        from onnx.reference import ReferenceEvaluator

        self._evaluator = ReferenceEvaluator(model)
        constants = {tensor.name for tensor in model.graph.initializer}
        self.inputs = tuple(spec_of(put) for put in model.graph.input if put.name not in constants)
        self.outputs = tuple(spec_of(out) for out in model.graph.output)

    def run(self, feeds: Feeds) -> Outputs:
        names = [spec.name for spec in self.outputs]
        arrays = {spec.name: np.asarray(feeds[spec.name]) for spec in self.inputs}
        return dict(zip(names, map(np.asarray, self._evaluator.run(names, arrays)), strict=True))

    def spread(self, feeds: Feeds) -> Outputs | None:  # noqa: ARG002  the protocol's
        return None

    def close(self) -> None:
        """Nothing is held outside Python's memory."""


def spec_of(put: ValueInfoProto) -> TensorSpec:
    """An input or output as the file declares it; what is no tensor has no shape and is called after its kind."""
    if put.type.WhichOneof("value") != "tensor_type":
        return TensorSpec(put.name, None, (put.type.WhichOneof("value") or "undefined").removesuffix("_type"))
    kind = put.type.tensor_type
    sizes = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in kind.shape.dim]
    shape = dims(sizes) if kind.HasField("shape") else None
    return TensorSpec(put.name, shape, NUMPY_NAMES.get(kind.elem_type, "undefined"))
