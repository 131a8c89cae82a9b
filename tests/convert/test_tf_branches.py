"""Branches that a constant shuts, and random generators inside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytestmark = [
    pytest.mark.framework("tensorflow", "tf2onnx"),
    pytest.mark.filterwarnings("ignore"),  # TensorFlow and tf2onnx warn of themselves
]


def _frozen(call: Any, training: Any) -> tuple[Any, Any]:
    """A function of ``x`` with a condition that its graph holds as a constant, frozen; and TensorFlow itself."""
    from mlconv.convert.tensorflow_import.graph import freeze_function
    from mlconv.runners.tensorflow import tensorflow
    from mlconv.tensors import TensorSpec

    tf = tensorflow()
    owner = tf.Module()
    owner.generator = tf.random.Generator.from_seed(1)
    owner.scale = tf.Variable(3.0)

    def whole(**given: Any) -> Any:
        x = given["x"]
        return {"y": call(tf, owner, x, training(tf, x) if callable(training) else tf.constant(training))}

    function = tf.function(whole).get_concrete_function(x=tf.TensorSpec((2,), name="x"))
    spec = TensorSpec("x", (2,), "float32")
    return freeze_function(owner, function, {"x": spec}, {"y": spec.renamed("y")}), tf


def _noisy(tf: Any, owner: Any, x: Any, training: Any) -> Any:
    return tf.cond(training, lambda: x + owner.generator.uniform((2,)), lambda: x * owner.scale)


def _kinds(graph_def: Any) -> set[str]:
    return {node.op for node in graph_def.node}


def _answer(frozen: Any, tf: Any, x: Any) -> Any:
    from mlconv.convert.tensorflow_import.graph import _cut

    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(_cut(frozen), name="")
    with tf.compat.v1.Session(graph=graph) as session:
        return session.run(frozen.outputs[0].tensor, {frozen.inputs[0].tensor: x})


@pytest.mark.parametrize(
    "shut",
    [
        False,
        lambda tf, x: tf.logical_and(tf.reduce_sum(x) > 0, tf.constant(False)),
        lambda tf, _: tf.logical_not(tf.constant(True)),
        lambda tf, x: tf.reduce_all((tf.constant(False), tf.reduce_sum(x) > 0)),
    ],
    ids=["a constant", "and", "not", "all of several"],
)
def test_a_branch_that_can_never_be_taken_goes_with_its_generator(shut: Any) -> None:
    from mlconv.convert.tensorflow_import.graph import _cut

    frozen, tf = _frozen(_noisy, shut)
    assert not {"If", "StatelessIf", "RngReadAndSkip"} & _kinds(_cut(frozen))
    np.testing.assert_array_equal(_answer(frozen, tf, np.array([1, 2], np.float32)), [3, 6])


def test_a_branch_behind_a_branch_is_found() -> None:
    def nested(tf: Any, owner: Any, x: Any, training: Any) -> Any:
        return tf.cond(tf.logical_not(training), lambda: _noisy(tf, owner, x, training), lambda: x)

    frozen, tf = _frozen(nested, False)
    np.testing.assert_array_equal(_answer(frozen, tf, np.array([1, 2], np.float32)), [3, 6])


def test_a_branch_that_the_inputs_decide_stays() -> None:
    frozen, tf = _frozen(
        lambda tf, owner, x, training: tf.cond(training, lambda: x, lambda: x * owner.scale),
        lambda tf, x: tf.reduce_sum(x) > 0,
    )
    assert {"If", "StatelessIf"} & _kinds(frozen.graph_def)
    np.testing.assert_array_equal(_answer(frozen, tf, np.array([1, 2], np.float32)), [1, 2])
    np.testing.assert_array_equal(_answer(frozen, tf, np.array([-1, -2], np.float32)), [-3, -6])
