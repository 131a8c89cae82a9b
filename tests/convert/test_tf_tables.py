"""Ranges of integers from the tables that a TensorFlow function indexes, held against what TensorFlow takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mlconv.convert.tensorflow_import.tables import table_ranges
from mlconv.runners.tensorflow import tensorflow
from mlconv.tensors import TensorSpec

pytestmark = pytest.mark.framework("tensorflow")

IDS = TensorSpec("ids", ("batch", 5), "int32")


@pytest.fixture(scope="module")
def tf() -> Any:
    return tensorflow()


def found(compute: Callable[[Any], Any], spec: TensorSpec = IDS) -> dict[str, tuple[int, int]]:
    return table_ranges(lambda feeds: {"y": compute(feeds[spec.name])}, [spec])


CASES: dict[str, tuple[Callable[[Any, Any, Any], Any], int]] = {
    "gather": (lambda tf, table, ids: tf.gather(table, ids), 9),
    "along an axis": (lambda tf, table, ids: tf.gather(table, ids, axis=1), 3),
    "embedding": (lambda tf, table, ids: tf.nn.embedding_lookup(table, tf.reshape(ids, [-1])), 9),
    "offset": (lambda tf, table, ids: tf.gather(table, tf.cast(ids, tf.int64) + 2), 7),
    "clipped below": (lambda tf, table, ids: tf.gather(table, tf.maximum(ids, 1)), 9),
    "wrapped": (lambda tf, table, ids: tf.gather(table, tf.where(ids < 0, ids + 10, ids)), 9),
    "coordinates": (lambda tf, table, ids: tf.gather_nd(table, ids[..., None]), 9),
}


@pytest.mark.parametrize(("compute", "high"), CASES.values(), ids=CASES.keys())
def test_the_greatest_value_runs_and_the_next_does_not(
    compute: Callable[[Any, Any, Any], Any], high: int, tf: Any
) -> None:
    table = tf.Variable(np.zeros((10, 4), np.float32))
    assert found(lambda ids: compute(tf, table, ids)) == {"ids": (0, high)}
    compute(tf, table, tf.fill([1, 5], high))
    with pytest.raises(tf.errors.InvalidArgumentError):
        compute(tf, table, tf.fill([1, 5], high + 1))


def test_one_hot_codes_have_their_depth(tf: Any) -> None:
    assert found(lambda ids: tf.one_hot(ids, 6)) == {"ids": (0, 5)}


def test_an_index_behind_a_call_is_found(tf: Any) -> None:
    table = tf.Variable(np.zeros((7, 4), np.float32))
    inner = tf.function(lambda ids: tf.gather(table, ids))
    assert found(inner) == {"ids": (0, 6)}


def test_what_indexes_nothing_or_cannot_be_traced_has_no_range(tf: Any) -> None:
    assert found(lambda ids: tf.cast(ids, tf.float32)) == {}
    assert found(lambda ids: tf.constant(np.asarray(ids))) == {}
    assert found(lambda ids: ids, TensorSpec("x", (1,), "float32")) == {}
