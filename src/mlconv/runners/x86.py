"""Whether this processor's 8-bit multiply saturates in onnxruntime.

Only a worker imports this module: it imports onnxruntime.
"""

from __future__ import annotations

import functools

import numpy as np
import onnxruntime

PRECISE = "session.x64quantprecision"
"""The session option with which onnxruntime takes slower and exact kernels (kOrtSessionOptionsAvx2PrecisionMode)."""

_FATAL_ONLY = 4  # onnxruntime.SessionOptions.log_severity_level


@functools.cache
def saturates() -> bool:
    """Whether onnxruntime gives other sums of unsigned by signed bytes than ONNX defines: x86 without VNNI does.

    ``vpmaddubsw`` adds two products in 16 bits. One product of two pairs is tried, a millisecond: what the processor says of
    itself may be an emulator's word, and which kernel is taken is onnxruntime's choice.
    """
    from onnx import TensorProto, helper, numpy_helper

    kinds = [("x", TensorProto.UINT8, [1, 2]), ("y", TensorProto.INT32, [1, 1])]
    puts, outs = ([helper.make_tensor_value_info(*kind)] for kind in kinds)
    weights = numpy_helper.from_array(np.full((2, 1), 127, np.int8), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])], "probe", puts, outs, [weights]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = _FATAL_ONLY, 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (sums,) = session.run(None, {"x": np.full((1, 2), 255, np.uint8)})
    return int(np.asarray(sums).item()) != 2 * 255 * 127
