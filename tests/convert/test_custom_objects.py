"""`--custom-objects`: classes and functions of the user's own, in every file that Keras writes."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mlconv.errors import (
    CustomObjectsNeeded,
    MissingFile,
    OtherKeras,
    RefNotFound,
    ShapesNeeded,
    SourceDoesNotRun,
    UserCodeRaised,
)

sys.path.insert(0, str(Path(__file__).parent))
from tf_models import agree, job

pytestmark = [
    pytest.mark.framework("tensorflow", "keras", "tf2onnx"),
    pytest.mark.filterwarnings("ignore"),  # TensorFlow, Keras and tf2onnx warn of themselves
]

LAYERS = """\
import {keras}

from beside_{name} import FACTOR


class Scale(keras.layers.Layer):
    def __init__(self, factor=2.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return x * self.factor * FACTOR

    def get_config(self):
        return {{**super().get_config(), "factor": self.factor}}


@keras.saving.register_keras_serializable(package="mine")
class Shift(keras.layers.Layer):
    def call(self, x):
        return x + 1.0


class Twos(keras.initializers.Initializer):
    def __call__(self, shape, dtype=None, **kwargs):
        return 0.0 * keras.initializers.Ones()(shape, dtype=dtype) + 2.0


def bent(x):
    return x * x


class Net(keras.Model):
    def __init__(self, width=3, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.dense = keras.layers.Dense(width)

    def call(self, x):
        return self.dense(x)

    def get_config(self):
        return {{**super().get_config(), "width": self.width}}


class Pair(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first, self.second = keras.layers.Dense(3), keras.layers.Dense(3)

    def call(self, one, two):
        return self.first(one) + self.second(two)


class Needs(keras.layers.Layer):
    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return x * self.factor

    def get_config(self):
        return super(keras.layers.Layer, self).get_config() and {{"name": self.name}}
"""


@pytest.fixture
def layers(tmp_path: Path) -> Iterator[tuple[Path, ModuleType]]:
    """A file of layers with a module beside it, and that file imported, as where the model was made."""
    yield from _layers(tmp_path, "keras", "layers3")


def _layers(folder: Path, keras: str, name: str) -> Iterator[tuple[Path, ModuleType]]:
    file = folder / f"{name}.py"
    file.write_text(LAYERS.format(keras="keras" if keras == "keras" else f"{keras} as keras", name=name))
    (folder / f"beside_{name}.py").write_text("FACTOR = 0.5\n")
    path, modules = list(sys.path), set(sys.modules)
    sys.path.append(str(folder))
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path[:] = path
    yield file, module
    sys.path[:] = path
    for left in set(sys.modules) - modules:
        if left in (name, f"beside_{name}"):
            del sys.modules[left]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "0")  # what a file of Keras 2 would set for the whole process


def _model(keras: Any, own: Any) -> Any:
    x = given = keras.Input((4,), name="x")
    x = own.Shift()(own.Scale(3.0)(x))
    x = keras.layers.Dense(3, activation=own.bent, kernel_initializer=own.Twos(), name="y")(x)
    return keras.Model(given, x)


def _run(task: Any) -> Any:
    from mlconv.convert.keras_to_onnx import run

    return run(task)


def _keras() -> Any:
    from mlconv.runners.tensorflow import tensorflow

    tensorflow()
    import keras

    return keras


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_layers_functions_and_initialisers_registered_or_not_load_from_the_file(
    layers: tuple[Path, ModuleType], suffix: str, tmp_path: Path
) -> None:
    file, own = layers
    _model(_keras(), own).save(tmp_path / f"m{suffix}")
    del sys.modules["beside_layers3"]  # so that importing the file must find what lies beside it
    task = job(
        tmp_path / f"m{suffix}",
        "keras" if suffix == ".keras" else "keras-h5",
        tmp_path,
        custom_objects=str(file),
    )
    converted = _run(task)
    agree(task, converted)
    expected = (2.0 * 4 * (3.0 * 0.5 + 1.0)) ** 2  # four inputs of 1, by hand
    assert converted.reference.run({"x": np.ones((1, 4), np.float32)})["y"].tolist() == [[expected] * 3]


@pytest.mark.framework("tf_keras")
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_layers_of_keras_2_load_a_file_of_keras_2(suffix: str, tmp_path: Path) -> None:
    _keras()
    import tf_keras

    ((file, own),) = list(_layers(tmp_path, "tf_keras", "layers2"))
    _model(tf_keras, own).save(tmp_path / f"m{suffix}")
    task = job(
        tmp_path / f"m{suffix}",
        "keras" if suffix == ".keras" else "keras-h5",
        tmp_path,
        custom_objects=str(file),
    )
    converted = _run(task)
    assert "tf_keras" in converted.warnings[0]
    agree(task, converted)


@pytest.mark.framework("tf_keras")
def test_layers_of_the_other_keras_are_told_apart(layers: tuple[Path, ModuleType], tmp_path: Path) -> None:
    _, own = layers
    _model(_keras(), own).save(tmp_path / "m.keras")
    ((other, _),) = list(_layers(tmp_path, "tf_keras", "layers2"))
    with pytest.raises(
        OtherKeras, match=r"`Scale`, `Shift`.* of `.*layers2.py` are classes of Keras 2"
    ) as raised:
        _run(job(tmp_path / "m.keras", "keras", tmp_path, custom_objects=str(other)))
    assert "write `import keras`" in raised.value.fix


def test_what_is_missing_is_named_with_its_registered_name_and_the_file_to_give(
    layers: tuple[Path, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    _, own = layers
    _model(_keras(), own).save(tmp_path / "m.keras")
    monkeypatch.delitem(keras.saving.get_custom_objects(), "mine>Shift")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CustomObjectsNeeded) as raised:
        _run(job(tmp_path / "m.keras", "keras", tmp_path))
    for told in ("`Scale`", "`Shift` (registered as `mine>Shift`)", "`Twos`", "`bent`"):
        assert told in raised.value.what
    assert raised.value.fix.startswith("--custom-objects layers3.py,")


def test_a_file_that_lacks_a_class_names_the_nearest(layers: tuple[Path, ModuleType], tmp_path: Path) -> None:
    file, own = layers
    _model(_keras(), own).save(tmp_path / "m.keras")
    other = tmp_path / "renamed.py"
    other.write_text(file.read_text().replace("class Scale(", "class Scaler("))
    with pytest.raises(
        CustomObjectsNeeded, match=r"neither Keras nor `.*renamed.py` has .*`Scale`"
    ) as raised:
        _run(job(tmp_path / "m.keras", "keras", tmp_path, custom_objects=str(other)))
    assert "`Scaler`" in str(raised.value.why)


def test_a_subclassed_model_takes_its_shape_from_the_build_that_the_file_remembers(
    layers: tuple[Path, ModuleType], tmp_path: Path
) -> None:
    file, own = layers
    _keras()
    net = own.Net(5)
    net(np.zeros((2, 6), np.float32))  # what a user called it on; the batch of it is no size of the model
    net.save(tmp_path / "m.keras")
    task = job(tmp_path / "m.keras", "keras", tmp_path, custom_objects=str(file))
    converted = _run(task)
    assert [(spec.name, spec.shape) for spec in converted.inputs] == [("x", ("batch", 6))]
    agree(task, converted)


def test_weights_of_layers_that_their_first_call_builds_are_those_of_the_file(
    layers: tuple[Path, ModuleType], tmp_path: Path
) -> None:
    file, own = layers
    _keras()
    pair = own.Pair()
    one, two = np.ones((2, 4), np.float32), np.full((2, 5), 2, np.float32)
    expected = pair(one, two).numpy()
    pair.save(tmp_path / "m.keras")
    with pytest.raises(ShapesNeeded, match="the shapes of its inputs: `two`") as raised:
        _run(job(tmp_path / "m.keras", "keras", tmp_path, custom_objects=str(file)))
    assert raised.value.fix.startswith("--input two=batch,8,")
    task = job(tmp_path / "m.keras", "keras", tmp_path, "two=batch,5", custom_objects=str(file))
    converted = _run(task)
    agree(task, converted)
    answers = converted.reference.run({"one": one, "two": two})
    np.testing.assert_allclose(next(iter(answers.values())), expected, rtol=1e-6)


def test_an_argument_that_no_get_config_kept_is_asked_for(
    layers: tuple[Path, ModuleType], tmp_path: Path
) -> None:
    file, own = layers
    keras = _keras()
    given = keras.Input((4,), name="x")
    keras.Model(given, own.Needs(3.0)(given)).save(tmp_path / "m.keras")
    with pytest.raises(SourceDoesNotRun, match=r"does not hold what `Needs` of .* is made with: 'factor'"):
        _run(job(tmp_path / "m.keras", "keras", tmp_path, custom_objects=str(file)))


def _import(told: str) -> Any:
    from mlconv.convert.tensorflow_import.custom_objects import import_objects

    return import_objects(told)


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "layers.py").write_text("")
    with pytest.raises(MissingFile, match="no file") as raised:
        _import(str(tmp_path / "layer.py"))
    assert raised.value.fix == f"--custom-objects {tmp_path / 'layers.py'}"


def test_a_missing_module_is_told_as_such() -> None:
    with pytest.raises(RefNotFound, match=r"no module `no_such\.layers`"):
        _import("no_such.layers")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("x = 1\n\ny = x / 0\n", "broken.py:3: division by zero"),
        ("def f(:\n", "broken.py:1: "),
        ("exit(3)\n", "broken.py:1: 3"),
    ],
)
def test_a_file_that_raises_is_told_with_its_line(source: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(source)
    with pytest.raises(UserCodeRaised, match=r"importing .*broken.py` raised") as raised:
        _import(str(tmp_path / "broken.py"))
    assert str(raised.value.why).startswith(told)


def test_what_a_file_imports_from_libraries_is_not_offered_to_keras(tmp_path: Path) -> None:
    (tmp_path / "few.py").write_text(
        "from keras.layers import Dense\nfrom numpy import mean\n\ndef own(x):\n    return x\n"
    )
    assert list(_import(str(tmp_path / "few.py")).by_name) == ["own"]
