"""REFs: what imports, what is called, what is taken off the module, and what is said where none of it works."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from mlconv.convert.torch_import import ref as torch_ref  # noqa: E402
from mlconv.errors import BadUsage, MissingPackage, MlconvError, RefNotFound, UserCodeRaised  # noqa: E402

pytestmark = [pytest.mark.framework("torch"), pytest.mark.filterwarnings("ignore")]

NET = """\
import torch

class Net(torch.nn.Module):
    def __init__(self, width, depth=2, *, num_classes=10):
        super().__init__()
        self.fc = torch.nn.Linear(4, num_classes)

    def forward(self, x):
        return self.fc(x)

class Parts(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = torch.nn.DataParallel(torch.nn.Linear(4, 3))
        self.b = torch.compile(torch.nn.Linear(3, 2))

    def forward(self, x):
        return self.b(self.a(x))

class Holder:
    def __init__(self):
        self.network = make()

def make():
    return Net(2)

def compiled():
    return torch.compile(make())

def compiled_in_place():
    made = make()
    made.compile()
    return made

def parallel():
    return torch.nn.DataParallel(make())

def averaged():
    return torch.optim.swa_utils.AveragedModel(make())

def scripted():
    return torch.jit.script(torch.nn.Linear(4, 2))

def trains():
    return make().train()

def on_meta():
    with torch.device("meta"):
        return make()

def pair():
    return make(), len

def both():
    return {"net": make(), "epoch": 3}

def nothing():
    pass

def state():
    return make().state_dict()

def a_class():
    return Net

def fails():
    settings = {}
    return Net(settings["width"])

def on_cuda():
    return torch.zeros(1, device="cuda")

def wants_a_package():
    import not_a_package_of_anybody

def configured(config):
    return Net(config.width)

instance = torch.nn.Linear(4, 2)
"""


@pytest.fixture(autouse=True)
def own_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a REF adds to the import path, and what it imports, ends with the test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in (
            "net",
            "nets",
            "models",
            "json",
            "one",
            "two",
            "three",
            "_user_json",
            "shared",
        ):
            del sys.modules[name]


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    monkeypatch.delitem(sys.modules, "net", raising=False)  # that of another test
    return tmp_path


def refused(text: str) -> MlconvError:
    with pytest.raises(MlconvError) as caught:
        torch_ref.build(text)
    return caught.value


# ------------------------------------------------------------------ what imports what


def test_three_modules_beside_the_file_import_each_other(net: Path) -> None:
    (net / "one.py").write_text("from two import Layer\n")
    (net / "two.py").write_text("import three\nLayer = three.torch.nn.Linear\n")
    (net / "three.py").write_text("import torch\n")
    (net / "net.py").write_text("from one import Layer\ndef make():\n    return Layer(4, 2)\n")
    assert torch_ref.build("net.py:make").out_features == 2


@pytest.mark.parametrize("with_init", [True, False])
def test_a_file_of_a_package_has_its_relative_imports(net: Path, with_init: bool) -> None:
    inner = net / "models" / "inner"
    inner.mkdir(parents=True)
    (inner / "net.py").write_text("from ..layers import Layer\ndef make():\n    return Layer(4, 2)\n")
    (net / "models" / "layers.py").write_text("import torch\nLayer = torch.nn.Linear\n")
    if with_init:
        (net / "models" / "__init__.py").touch()
        (inner / "__init__.py").touch()
    assert torch_ref.build("models/inner/net.py:make").out_features == 2


def test_a_package_with_the_name_of_a_library_has_relative_imports_and_does_not_hide_it(net: Path) -> None:
    (net / "json").mkdir()
    (net / "json" / "__init__.py").touch()
    (net / "json" / "net.py").write_text(
        "import json\nfrom .layers import Layer\nassert json.dumps(1) == '1'\ndef make():\n    return Layer(4, 2)\n"
    )
    (net / "json" / "layers.py").write_text("import torch\nLayer = torch.nn.Linear\n")
    assert torch_ref.build("json/net.py:make").out_features == 2


def test_a_file_in_a_folder_of_the_project_imports_from_the_current_one(net: Path) -> None:
    (net / "nets").mkdir()
    (net / "shared.py").write_text("import torch\nLayer = torch.nn.Linear\n")
    (net / "nets" / "net.py").write_text("from shared import Layer\ndef make():\n    return Layer(4, 2)\n")
    assert torch_ref.build("nets/net.py:make").out_features == 2


def test_a_module_that_lies_nearby_is_found_for_the_user(net: Path, tmp_path_factory: pytest.TempPathFactory,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    (net / "nets").mkdir()
    (net / "shared.py").touch()
    (net / "nets" / "net.py").write_text("from shared import Layer\n")
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    error = refused(f"{net}/nets/net.py:make")
    assert error.fix == f"run mlconv in the folder that holds `shared`: cd {net}"
    assert "net.py:1 `from shared import Layer`" in str(error.why)


def test_a_package_that_is_not_installed_is_named_with_the_line_and_with_what_installs_it(net: Path) -> None:
    error = refused("net.py:wants_a_package")
    assert isinstance(error, MissingPackage)
    assert error.exit == 5
    assert error.what.endswith("needs the package `not_a_package_of_anybody`, which is not installed")
    assert error.why == "at net.py:74 `import not_a_package_of_anybody`"
    assert error.fix.startswith("pip install not_a_package_of_anybody, or ")
    (net / "one.py").write_text("import of_nobody.inner\n")
    assert refused("one.py:make").fix.startswith("pip install of_nobody, or ")


@pytest.mark.parametrize(
    ("module", "distribution"),
    [("cv2", "opencv-python"), ("skimage.io", "scikit-image"), ("pytorch_lightning", "pytorch-lightning")],
)
def test_a_package_is_installed_by_the_name_that_pip_knows(net: Path, module: str, distribution: str) -> None:
    if importlib.util.find_spec(module.partition(".")[0]):
        pytest.skip(f"{module} is here")
    (net / "one.py").write_text(f"import {module}\n")
    error = refused("one.py:make")
    assert isinstance(error, MissingPackage)
    assert error.fix.startswith(f"pip install {distribution}, or ")


@pytest.mark.parametrize("module", ["utils.layers", "torch.no_such_part", "json.of_nobody"])
def test_a_part_of_the_project_or_of_what_is_installed_is_no_package_to_install(
    net: Path, module: str
) -> None:
    (net / "one.py").write_text(f"import {module}\n")
    assert isinstance(refused("one.py:make"), UserCodeRaised)


def test_a_module_that_is_mistyped_tells_the_nearest(net: Path) -> None:
    error = refused("torch.nnn:Linear(4, 2)")
    assert (error.what, error.why) == ("there is no module `torch.nnn`", "nearest: `torch.nn`")
    assert error.fix == "'torch.nn:Linear(4, 2)'"
    assert torch_ref.build(error.fix.strip("'")).out_features == 2


# ------------------------------------------------------------------ calls


def test_an_argument_that_is_missing_is_named_with_a_line_to_type(net: Path) -> None:
    error = refused("net.py:Net")
    assert isinstance(error, BadUsage)
    assert error.why == "it takes `width`, `depth` (default 2), `num_classes` (default 10)"
    assert error.fix.startswith("'net.py:Net(width=VALUE)'")


def test_an_argument_that_is_mistyped_is_mended_in_the_hint(net: Path) -> None:
    error = refused("net.py:Net(3, num_clases=5)")
    assert error.fix == "'net.py:Net(3, num_classes=5)'"
    assert torch_ref.build(error.fix.strip("'")).state_dict()["fc.bias"].shape == (5,)


def test_too_many_arguments_are_cut(net: Path) -> None:
    error = refused("net.py:Net(3, 4, 5)")
    assert error.fix == "'net.py:Net(3, 4)'"
    assert torch_ref.build(error.fix.strip("'")).state_dict()["fc.bias"].shape == (10,)


def test_an_argument_that_no_literal_can_be_needs_a_function(net: Path) -> None:
    error = refused("net.py:configured")
    assert "takes `config`, an object, and a REF can give texts and numbers alone" in error.what
    assert (
        error.fix
        == "write a function that makes `config` and returns configured(config), and name that: net.py:make"
    )


def test_a_class_that_loads_itself_is_offered_its_folder(net: Path) -> None:
    (net / "hub.py").write_text(
        "import torch\nclass Bert(torch.nn.Linear):\n    def __init__(self, config):\n        super().__init__(config, 2)\n"
        "    @classmethod\n    def from_pretrained(cls, folder):\n        return cls(len(folder))\n"
    )
    error = refused("hub.py:Bert")
    line, _, note = error.fix.partition("   ")
    assert (line, note[:7]) == ("'hub.py:Bert.from_pretrained(\"FOLDER\")'", "(FOLDER")
    assert torch_ref.build(line.strip("'")).in_features == 6


def test_an_instance_takes_no_arguments(net: Path) -> None:
    assert refused("net.py:instance(3)").fix.startswith("net.py:instance, or")


def test_what_raises_is_told_with_file_and_line(net: Path) -> None:
    error = refused("net.py:fails")
    assert (error.id, error.exit) == ("MLC216", 4)
    assert error.why == "KeyError: 'width' (at net.py:68 `return Net(settings[\"width\"])`)"


def test_a_file_that_does_not_parse_is_told_with_its_line(net: Path) -> None:
    (net / "net.py").write_text("def make():\n    return (\n")
    error = refused("net.py:make")
    assert "(at net.py:2)" in str(error.why)


def test_what_needs_a_gpu_is_told_to_do_without(net: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    assert refused("net.py:on_cuda").fix.startswith("build the model on the CPU")


# ------------------------------------------------------------------ what it gives


def test_a_wrapper_of_ones_own_is_kept_whatever_it_calls_what_it_holds(net: Path) -> None:
    (net / "own.py").write_text(
        "import torch\n"
        "class Own(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self._orig_mod = torch.nn.Linear(3, 2)\n"
        "        self.part = torch.nn.Sequential()\n"
        "    def forward(self, x):\n"
        "        return self._orig_mod(x).softmax(-1)\n"
        "def inside():\n"
        "    return torch.nn.Sequential(Own())\n"
    )
    assert type(torch_ref.build("own.py:Own")).__name__ == "Own"
    assert type(torch_ref.build("own.py:inside")[0]).__name__ == "Own"  # type: ignore[index]


@pytest.mark.parametrize("name", ["compiled", "compiled_in_place", "parallel", "averaged", "trains"])
def test_wrappers_of_training_are_taken_off(net: Path, name: str) -> None:
    made = torch_ref.build(f"net.py:{name}")
    assert type(made).__name__ == "Net"
    assert not made.training
    assert made._compiled_call_impl is None
    assert list(made.state_dict()) == ["fc.weight", "fc.bias"]


def test_wrappers_around_parts_are_taken_off_too(net: Path) -> None:
    made = torch_ref.build("net.py:Parts")
    assert list(made.state_dict()) == ["a.weight", "a.bias", "b.weight", "b.bias"]
    assert made(torch.ones(1, 4)).shape == (1, 2)


def test_torchscript_stays_torchscript(net: Path) -> None:
    assert isinstance(torch_ref.build("net.py:scripted"), torch.jit.ScriptModule)


def test_a_module_without_values_needs_weights(net: Path) -> None:
    error = refused("net.py:on_meta")
    assert isinstance(error, RefNotFound)
    assert error.why == "`fc.weight`, `fc.bias` have a shape and no values"


@pytest.mark.parametrize(("name", "place"), [("pair", "[0]"), ("both", '["net"]'), ("Holder", ".network")])
def test_a_module_inside_of_something_comes_with_a_function_that_works(
    net: Path, name: str, place: str
) -> None:
    error = refused(f"net.py:{name}")
    assert error.why == f"the module is its {place}"
    head, *lines = error.fix.split("\n")
    assert head == "put this into net.py, then: mlconv onnx net.py:model_alone"
    with (net / "net.py").open("a") as file:
        file.write("\n" + "\n".join(line[4:] for line in lines) + "\n")
    assert type(torch_ref.build("net.py:model_alone")).__name__ == "Net"


def test_a_function_of_a_library_that_gives_more_comes_with_a_file_that_works(net: Path) -> None:
    error = refused("net:pair")
    head, *lines = error.fix.split("\n")
    assert head == "put this into net.py, then: mlconv onnx net.py:make"
    (net / "one.py").write_text("\n".join(line[4:] for line in lines) + "\n")
    assert type(torch_ref.build("one.py:make")).__name__ == "Net"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nothing", "gives None"),
        ("state", "gives an OrderedDict with the keys `fc.weight`, `fc.bias`"),
        ("a_class", "gives a type"),
        ("torch.nn", "gives a module"),
    ],
)
def test_what_is_no_module_is_told(net: Path, name: str, told: str) -> None:
    error = refused(f"net.py:{name}")
    assert isinstance(error, RefNotFound)
    assert told in error.what
