"""Weights of the user's own layers: they reach the variables that they are of, or the user is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from mlconv.convert.tensorflow_import import keras_weights  # noqa: E402
from mlconv.errors import SourceDoesNotRun  # noqa: E402

pytestmark = [pytest.mark.framework("tensorflow"), pytest.mark.filterwarnings("ignore")]


def two(*order: str, shapes: dict[str, tuple[int, ...]] | None = None) -> type:
    class Two(keras.layers.Layer):  # type: ignore[misc, name-defined]
        def build(self, _shape: Any) -> None:
            for name in order:
                setattr(self, name, self.add_weight(shape=(shapes or {}).get(name, (3, 3)), name=name))

        def call(self, x: Any) -> Any:
            return x

    return Two


def network(kind: type, inner: bool = False) -> Any:
    def around() -> Any:
        return keras.Sequential([keras.layers.Input((3,)), kind(name="two"), keras.layers.Dense(2)])

    return keras.Sequential([keras.layers.Input((3,)), around()], name="all") if inner else around()


def loaded(saved: type, given: type, path: Path, inner: bool = False) -> list[str]:
    """The notes on a model that one class saved and another one loads."""
    model = network(saved, inner)
    model.set_weights([np.full(value.shape, at, "float32") for at, value in enumerate(model.get_weights())])
    model.save(path)
    again = keras.models.load_model(path, custom_objects={"Two": given}, compile=False)
    return keras_weights.assert_in_order(again, path, [given], path.name, "co.py")


@pytest.mark.parametrize("inner", [False, True])
def test_another_order_of_names_is_refused(inner: bool, tmp_path: Path) -> None:
    with pytest.raises(SourceDoesNotRun, match="in another order") as caught:
        loaded(two("a", "b"), two("b", "a"), tmp_path / "m.h5", inner)
    assert "`co.py`" in str(caught.value)


@pytest.mark.parametrize("inner", [False, True])
def test_the_same_order_says_nothing(inner: bool, tmp_path: Path) -> None:
    assert loaded(two("b", "a"), two("b", "a"), tmp_path / "m.h5", inner) == []


def test_other_names_are_told(tmp_path: Path) -> None:
    (note,) = loaded(two("a", "b"), two("p", "q"), tmp_path / "m.h5")
    assert "`a`, `b`" in note
    assert "`p`, `q`" in note


def test_weights_that_only_their_position_tells_apart_are_told(tmp_path: Path) -> None:
    (note,) = loaded(two("a", "b"), two("b", "a"), tmp_path / "m.keras")
    assert "`b`, `a` of `two` apart by position alone" in note


def test_weights_that_their_shapes_tell_apart_say_nothing(tmp_path: Path) -> None:
    kind = two("a", "b", shapes={"a": (3,)})
    assert loaded(kind, kind, tmp_path / "m.keras") == []
