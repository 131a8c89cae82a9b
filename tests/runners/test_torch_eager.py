"""The reference runner: names of outputs, and what crosses between numpy and torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mlconv.errors import UnknownOutput, UnsupportedType  # noqa: E402
from mlconv.runners.torch_eager import Flat, TorchRunner, choose, leaves, to_numpy, to_torch  # noqa: E402
from mlconv.tensors import TensorSpec  # noqa: E402

pytestmark = pytest.mark.framework("torch")


class Named(NamedTuple):
    low: Any
    high: Any


@dataclass
class Detections:
    boxes: Any
    scores: Any = None


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (1, ["output"]),
        ((1,), ["output_0"]),
        ([1, (2, 3)], ["output_0", "output_1_0", "output_1_1"]),
        ({"a": 1, "b c": (2, None, 3)}, ["a", "b_c_0", "b_c_2"]),
        (Named(1, {"x": 2}), ["low", "high_x"]),
        (Detections(1), ["boxes"]),
        ((Detections(1, 2),), ["output_0_boxes", "output_0_scores"]),
        ({"a": (1,), "a_0": 2}, ["a_0", "a_0_"]),
        (None, []),
    ],
)
def test_outputs_are_named_by_where_they_stand(value, names):
    assert [name for name, _ in leaves(value)] == names


def test_outputs_are_chosen_in_the_models_order():
    assert choose(("a", "b", "c"), ("c", "a")) == ("a", "c")
    assert choose(("a", "b"), ()) == ("a", "b")
    with pytest.raises(UnknownOutput, match="no output `d`"):
        choose(("a", "b"), ("d",))


@pytest.mark.parametrize(
    "dtype",
    ["float16", "float32", "float64", "bool", "int8", "uint8", "int16", "uint16", "int32", "int64", "uint32"],
)
def test_arrays_cross_unchanged(dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    back = to_numpy(to_torch(array))
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_bfloat16_crosses_by_its_bits():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    array = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    tensor = to_torch(array)
    assert tensor.dtype == torch.bfloat16
    assert tensor.tolist() == [1.5, -2.0]
    assert to_numpy(tensor).tolist() == [1.5, -2.0]


class InPlace(torch.nn.Module):
    def forward(self, x: Any) -> Any:
        x += 1
        return x, 7


def test_a_module_that_writes_to_its_input_changes_no_feed():
    spec = TensorSpec("x", (2,), "float32")
    outputs = (TensorSpec("output_0", (2,), "float32"), TensorSpec("output_1", (), "int64"))
    runner = TorchRunner(Flat(InPlace().eval(), lambda tensors: (tuple(tensors), {})), (spec,), outputs)
    feeds = {"x": np.zeros(2, np.float32)}
    for _ in range(2):
        found = runner.run(feeds)
        assert found["output_0"].tolist() == [1.0, 1.0]
        assert found["output_1"].dtype == np.int64
    assert runner.name == "torch-cpu"
    assert runner.spread(feeds) is None


def test_outputs_that_are_no_tensors_are_refused_unless_left_out():
    class Odd(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return {"y": x, "text": "hello", "sparse": x.to_sparse()}

    pack = lambda tensors: (tuple(tensors), {})  # noqa: E731
    with pytest.raises(UnsupportedType, match="`text` is a str"):
        Flat(Odd(), pack)(torch.ones(2))
    assert len(Flat(Odd(), pack, ["y"])(torch.ones(2))) == 1
    with pytest.raises(UnsupportedType, match="layout"):
        Flat(Odd(), pack, ["sparse"])(torch.ones(2))
