"""TensorFlow's names for what the package calls by numpy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlconv.tensors import TensorSpec

pytestmark = [pytest.mark.framework("tensorflow"), pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def tf() -> Any:
    from mlconv.runners.tensorflow import tensorflow

    return tensorflow()


@pytest.mark.parametrize(
    ("own", "told"),
    [("half", "float16"), ("float32", "float32"), ("double", "float64"), ("string", "str"), ("bfloat16", "bfloat16"),
     ("quint8", "uint8"), ("bool", "bool"), (1, "float32"), (101, "float32")],
)  # fmt: skip
def test_a_dtype_bears_numpy_s_name(tf: Any, own: Any, told: str) -> None:
    from mlconv.runners.tensorflow import dtype_name

    assert dtype_name(own) == told


def test_the_keras_backend_is_tensorflow_whatever_the_user_set(
    monkeypatch: pytest.MonkeyPatch, tf: Any
) -> None:
    import os

    from mlconv.runners.tensorflow import tensorflow

    monkeypatch.setenv("KERAS_BACKEND", "torch")
    tensorflow()
    assert os.environ["KERAS_BACKEND"] == "tensorflow"


def test_outputs_come_in_the_signature_s_order_as_arrays(tf: Any) -> None:
    from mlconv.runners.tensorflow import TensorFlowRunner

    released = []
    specs = tuple(TensorSpec(name, (2,), "float32") for name in ("b", "a"))
    call = lambda given: {"a": tf.constant(given["x"]) + 1, "b": tf.constant(given["x"]), "c": None}  # noqa: E731
    runner = TensorFlowRunner(
        "tensorflow-cpu", (TensorSpec("x", (2,), "float32"),), specs, call, lambda: released.append(1)
    )
    outputs = runner.run({"x": np.zeros(2, np.float32)})
    assert list(outputs) == ["b", "a"]
    np.testing.assert_array_equal(outputs["a"], [1, 1])
    assert runner.spread({}) is None
    runner.close()
    assert released == [1]


def test_an_unknown_rank_and_an_open_size_are_told_apart(tf: Any) -> None:
    from mlconv.runners.tensorflow import dims

    assert dims(tf.TensorShape(None)) is None
    assert dims(tf.TensorShape([None, 3])) == (None, 3)
    assert dims(tf.TensorShape([])) == ()
