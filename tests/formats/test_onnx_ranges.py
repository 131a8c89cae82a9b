"""Ranges of the integer inputs of ONNX graphs, held against what onnxruntime takes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from mlconv.formats.onnx_ranges import value_ranges

Build = Callable[..., onnx.ModelProto]
node = helper.make_node


def model(
    nodes: list[NodeProto], constants: dict[str, np.ndarray], *, rank: int = 1, dtype: int = TensorProto.INT64
) -> onnx.ModelProto:
    """A graph from ``ids`` to ``y``."""
    ids = helper.make_tensor_value_info("ids", dtype, [f"n{axis}" for axis in range(rank)])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    weights = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", [ids], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


TABLE = {"table": np.zeros((10, 3), np.float32)}
ONE, FIVE, TEN = (np.array(number, np.int64) for number in (1, 5, 10))
GATHER = node("Gather", ["table", "i"], ["y"])

CASES = {
    "through a cast": ([node("Cast", ["ids"], ["i"], to=TensorProto.INT32), GATHER], {}, 9),
    "with an offset": ([node("Add", ["ids", "c"], ["i"]), GATHER], {"c": FIVE}, 4),
    "reshaped": ([node("Unsqueeze", ["ids", "c"], ["i"]), GATHER], {"c": np.array([0])}, 9),
    "clipped below": ([node("Clip", ["ids", "c"], ["i"]), GATHER], {"c": ONE}, 9),
    "doubled": ([node("Add", ["ids", "ids"], ["i"]), GATHER], {}, 4),
    "halved": ([node("Div", ["ids", "c"], ["i"]), GATHER], {"c": np.array(2)}, 19),
    "by way of floats": (
        [node("Cast", ["ids"], ["f"], to=1), node("Mul", ["f", "c"], ["g"]), node("Cast", ["g"], ["i"], to=7), GATHER],
        {"c": np.array(3, np.float32)},
        3,
    ),
    "wrapped from the end": (
        [node("Less", ["ids", "z"], ["n"]), node("Add", ["ids", "c"], ["m"]), node("Where", ["n", "m", "ids"], ["i"]), GATHER],
        {"z": np.array(0), "c": TEN},
        9,
    ),
    "a transposed table": (
        [node("Transpose", ["table"], ["t"]), node("Gather", ["t", "ids"], ["y"], axis=1)],
        {},
        9,
    ),
    "a quantized table": (
        [node("DequantizeLinear", ["q", "s"], ["t"]), node("Gather", ["t", "ids"], ["y"])],
        {"q": np.zeros((6, 2), np.int8), "s": np.array(0.5, np.float32)},
        5,
    ),
}  # fmt: skip


@pytest.mark.framework("onnxruntime")
@pytest.mark.parametrize(("nodes", "constants", "high"), CASES.values(), ids=CASES.keys())
def test_the_greatest_value_runs_and_the_next_does_not(
    nodes: list[NodeProto], constants: dict[str, np.ndarray], high: int
) -> None:
    import onnxruntime

    built = model(nodes, {**TABLE, **constants})
    assert value_ranges(built) == {"ids": (0, high)}
    session = onnxruntime.InferenceSession(built.SerializeToString(), providers=["CPUExecutionProvider"])
    session.run(None, {"ids": np.array([0, high])})
    with pytest.raises(Exception, match="out of data bounds"):
        session.run(None, {"ids": np.array([0, high + 1])})


def test_an_index_that_is_clipped_on_both_sides_has_no_range() -> None:
    built = model([node("Clip", ["ids", "lo", "hi"], ["i"]), GATHER], {**TABLE, "lo": ONE, "hi": FIVE})
    assert value_ranges(built) == {}


def test_one_hot_codes_have_their_depth() -> None:
    built = model(
        [node("OneHot", ["ids", "depth", "values"], ["y"])],
        {"depth": np.array(6, np.int64), "values": np.array([0, 1], np.float32)},
    )
    assert value_ranges(built) == {"ids": (0, 5)}


def test_several_coordinates_take_the_least_of_their_axes() -> None:
    built = model([node("GatherND", ["table", "ids"], ["y"])], TABLE, rank=2)
    built.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 2
    assert value_ranges(built) == {"ids": (0, 2)}


def test_a_table_used_inside_a_branch_counts() -> None:
    branch = helper.make_graph(
        [node("Gather", ["table", "ids"], ["out"])],
        "then",
        [],
        [helper.make_tensor_value_info("out", 1, None)],
    )
    other = helper.make_graph(
        [node("Identity", ["table"], ["out2"])], "else", [], [helper.make_tensor_value_info("out2", 1, None)]
    )
    built = model(
        [node("If", ["c"], ["y"], then_branch=branch, else_branch=other)], {**TABLE, "c": np.array(True)}
    )
    assert value_ranges(built) == {"ids": (0, 9)}


def test_an_offset_whose_numbers_lie_outside_the_file_bounds_nothing() -> None:
    built = model([node("Add", ["ids", "c"], ["i"]), GATHER], {**TABLE, "c": FIVE})
    offset = next(tensor for tensor in built.graph.initializer if tensor.name == "c")
    offset.ClearField("raw_data")
    offset.data_location = TensorProto.EXTERNAL
    offset.external_data.add(key="location", value="weights.bin")
    assert value_ranges(built) == {}
