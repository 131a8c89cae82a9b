"""Checkpoints as trainings leave them: read without running anything, laid into a module, or refused in words that cure."""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")

from mlconv.convert.job import Options  # noqa: E402
from mlconv.convert.torch_import import ref as torch_ref  # noqa: E402
from mlconv.convert.torch_import.checkpoint import Weights, read_weights  # noqa: E402
from mlconv.convert.torch_import.source import open_source  # noqa: E402
from mlconv.convert.torch_import.weights import Fit, load_weights  # noqa: E402
from mlconv.convert.trust import assert_trusted  # noqa: E402
from mlconv.errors import (  # noqa: E402
    Corrupt,
    MlconvError,
    SourceDoesNotRun,
    UnknownFormat,
    UntrustedPickle,
    WeightsMismatch,
)
from mlconv.model import describe, identify  # noqa: E402
from mlconv.tensors import InputOption  # noqa: E402

pytestmark = [pytest.mark.framework("torch"), pytest.mark.filterwarnings("ignore")]

NET = """\
import torch

class Net(torch.nn.Module):
    def __init__(self, hidden=6, num_classes=3):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, hidden, 3)
        self.norm = torch.nn.BatchNorm2d(hidden)
        self.fc = torch.nn.Linear(hidden, num_classes)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x)).mean((2, 3)))

def make(num_classes=3):
    return Net(num_classes=num_classes)

def wide(outputs=3):
    return Net(num_classes=outputs)

def loose(**settings):
    return Net(**settings)

def on_meta():
    with torch.device("meta"):
        return Net()

def half():
    return Net().half()

class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(5, 4)
        self.head = torch.nn.Linear(4, 5, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids):
        return self.head(self.table(ids))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    sys.modules.pop("net", None)
    return tmp_path


def trained(ref: str = "net.py:make") -> Any:
    """A module whose every number differs from what a constructor gives."""
    module = torch_ref.build(ref, seed=99)
    for number, tensor in enumerate(module.state_dict().values()):
        tensor.add_(number + 1)
    return module


def state(ref: str = "net.py:make") -> dict[str, Any]:
    return dict(trained(ref).state_dict())


def load(weights: Weights, ref: str = "net.py:make", prefix: str | None = None) -> tuple[Any, Fit]:
    built = torch_ref.build_ref(ref)
    fit = load_weights(built, weights, prefix)
    return built.module, fit


def agrees(module: Any, wanted: dict[str, Any]) -> bool:
    return all(
        torch.equal(tensor, wanted[name].to(tensor.dtype)) for name, tensor in module.state_dict().items()
    )


def mismatch(weights: Weights, ref: str = "net.py:make", prefix: str | None = None) -> WeightsMismatch:
    with pytest.raises(WeightsMismatch) as caught:
        load(weights, ref, prefix)
    return caught.value


class Settings:
    """A class that only the training's project has."""

    def __init__(self) -> None:
        self.lr = 0.1


class Payload:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        import os

        return os.mkdir, (str(self.canary),)


def lightning(settings: object) -> dict[str, Any]:
    """What ``Trainer.save_checkpoint`` of Lightning 2.6 writes, key for key."""
    return {
        "epoch": 1, "global_step": 2, "pytorch-lightning_version": "2.6.6",
        "state_dict": {f"model.{name}": tensor for name, tensor in state().items()},
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 1}}}}, "callbacks": {},
        "optimizer_states": [torch.optim.AdamW(trained().parameters()).state_dict()], "lr_schedulers": [],
        "hparams_name": "kwargs", "hyper_parameters": settings,
    }  # fmt: skip


# ------------------------------------------------------------------ what stands beside the weights


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "torch-1.5"])
@pytest.mark.parametrize(
    "settings",
    [
        {"lr": 0.1},
        argparse.Namespace(lr=0.1),
        Settings(),
        {"loss": torch.nn.CrossEntropyLoss(torch.ones(3))},
        Path("data"),
    ],
    ids=["plain", "namespace", "class", "module", "path"],
)
def test_a_lightning_checkpoint_loads_whatever_its_settings_are(
    folder: Path, settings: object, legacy: bool
) -> None:
    torch.save(lightning(settings), folder / "last.ckpt", _use_new_zipfile_serialization=not legacy)
    assert identify("last.ckpt").format == "torch-weights"
    assert "the weights stand under `state_dict`" in describe(identify("last.ckpt")).notes
    assert_trusted(identify("last.ckpt"), Options(module="net.py:make"))
    module, fit = load(read_weights(folder / "last.ckpt"))
    assert agrees(module, state())
    assert fit == Fit(())


def test_what_stands_beside_the_weights_is_never_run(folder: Path) -> None:
    canary = folder / "ran"
    torch.save({"state_dict": state(), "settings": Payload(canary)}, folder / "w.ckpt")
    assert identify("w.ckpt").format == "torch-pickle"
    with pytest.raises(UntrustedPickle):
        assert_trusted(identify("w.ckpt"), Options(module="net.py:make"))
    with pytest.raises(UntrustedPickle):
        read_weights(folder / "w.ckpt")
    assert not canary.exists()


def test_tensors_keep_their_strides_and_what_they_share(folder: Path) -> None:
    whole = torch.arange(24.0).reshape(4, 6)
    odd = {"turned": whole.t(), "part": whole[1:3, ::2], "none": torch.zeros(0, 3), "one": torch.tensor(7), "flag": torch.tensor([True]),
           "brain": torch.ones(2, dtype=torch.bfloat16), "complex": torch.ones(2, dtype=torch.complex64)}  # fmt: skip
    torch.save({"state_dict": odd, "settings": Settings()}, folder / "w.pth")
    found = read_weights(folder / "w.pth").tensors
    assert found.keys() == odd.keys()
    for name, tensor in odd.items():
        assert torch.equal(found[name], tensor), name
        assert (found[name].dtype, found[name].stride()) == (tensor.dtype, tensor.stride()), name
    assert found["turned"].untyped_storage().data_ptr() == found["part"].untyped_storage().data_ptr()


def test_a_storage_that_is_cut_off_or_missing_is_corrupt(folder: Path) -> None:
    torch.save(
        {"state_dict": state(), "settings": Settings()},
        folder / "w.pth",
        _use_new_zipfile_serialization=False,
    )
    whole = (folder / "w.pth").read_bytes()
    (folder / "w.pth").write_bytes(whole[:-9])
    with pytest.raises(Corrupt):
        read_weights(folder / "w.pth")
    torch.save({"state_dict": state(), "settings": Settings()}, folder / "v.pth")
    with zipfile.ZipFile(folder / "v.pth") as source, zipfile.ZipFile(folder / "w.pth", "w") as copy:
        for entry in source.infolist():
            if not entry.filename.endswith("data/2"):
                copy.writestr(entry.filename, source.read(entry))
    with pytest.raises(Corrupt, match="damaged"):
        read_weights(folder / "w.pth")


def other_device(path: Path, device: str) -> None:
    """The same file, as it would have been saved there: the location stands in each storage's name."""
    with zipfile.ZipFile(path) as source:
        members = {entry.filename: source.read(entry) for entry in source.infolist()}
    place = b"X" + len(device).to_bytes(4, "little") + device.encode()
    with zipfile.ZipFile(path, "w") as copy:
        for name, content in members.items():
            changed = content.replace(b"X\x03\0\0\0cpu", place)
            assert name.endswith("data.pkl") == (changed != content)
            copy.writestr(name, changed)


@pytest.mark.parametrize("settings", [{}, Settings()], ids=["plain", "foreign"])
@pytest.mark.parametrize("device", ["cuda:0", "cuda:7", "mps", "xpu:0"])
def test_tensors_of_another_device_are_read_onto_the_cpu(folder: Path, device: str, settings: object) -> None:
    torch.save({"state_dict": state(), "settings": settings}, folder / "w.pth")
    other_device(folder / "w.pth", device)
    found = read_weights(folder / "w.pth").tensors
    assert {tensor.device.type for tensor in found.values()} == {"cpu"}
    assert all(torch.equal(found[name], tensor) for name, tensor in state().items())


def test_shards_of_pickles_are_gathered(folder: Path) -> None:
    every = state()
    names = list(every)
    for number, part in enumerate((names[:3], names[3:])):
        torch.save({name: every[name] for name in part}, folder / f"pytorch_model-{number}.bin")
    index = {
        "metadata": {},
        "weight_map": {name: f"pytorch_model-{int(i >= 3)}.bin" for i, name in enumerate(names)},
    }
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert identify("pytorch_model.bin.index.json").format == "torch-weights"
    module, _ = load(read_weights(folder / "pytorch_model.bin.index.json"))
    assert agrees(module, every)


# ------------------------------------------------------------------ whole modules


@pytest.fixture
def whole(folder: Path) -> Path:
    """Ultralytics' layout: the averaged module in half precision under `ema`, the last one under `model`."""
    import importlib

    values = state()
    sys.modules.pop("net")
    net = importlib.import_module("net")
    ema, last = net.Net(), net.Net()
    ema.load_state_dict(values)
    ema.register_buffer("scratch", torch.ones(2), persistent=False)
    checkpoint = {"epoch": -1, "model": last.half(), "ema": ema.half(), "updates": 3, "optimizer": None, "train_args": {"imgsz": 640},
                  "date": "2026-11-21"}  # fmt: skip
    torch.save(checkpoint, folder / "best.pt")
    torch.save(dict(checkpoint, model=checkpoint["ema"], ema=None), folder / "stripped.pt")
    torch.save(ema, folder / "alone.pt")
    del sys.modules["net"]
    return folder


@pytest.mark.parametrize("name", ["best.pt", "stripped.pt", "alone.pt"])
def test_the_weights_of_a_pickled_module_need_no_consent_beside_code_that_builds_it(
    whole: Path, name: str
) -> None:
    assert identify(name).format == "torch-pickle"
    options = Options(weights=name)
    assert_trusted(identify("net.py:make"), options)
    found = read_weights(whole / name)
    assert list(found.tensors) == list(state())
    module, fit = load(found)
    assert agrees(
        module,
        {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in state().items()},
    )
    assert "the weights are float16 and were converted to float32" in fit.notes


def test_a_pickled_module_is_a_source_with_its_module_and_is_not_loaded(whole: Path) -> None:
    options = Options(module="net.py:make", input=(InputOption("x", (1, 1, 8, 8)),))
    assert_trusted(identify("best.pt"), options)
    source = open_source(identify("best.pt"), options, whole)
    assert source.weights == "best.pt"
    assert type(source.module).__name__ == "Net"


def test_a_pickled_module_is_loaded_with_consent_and_told_which(whole: Path) -> None:
    with pytest.raises(UntrustedPickle):
        assert_trusted(identify("best.pt"), Options())
    options = Options(trust_pickle=True, input=(InputOption("x", (1, 1, 8, 8)),))
    source = open_source(identify("best.pt"), options, whole)
    assert next(source.module.parameters()).dtype == torch.float32
    assert source.warnings == [
        "the module under `ema` of best.pt was taken; it also holds `model`",
        "the weights are float16 and were converted to float32",
    ]


def test_a_trusted_pickle_may_be_called_anything(whole: Path) -> None:
    (whole / "best.pt").rename(whole / "best.safetensors")
    options = Options(trust_pickle=True, input=(InputOption("x", (1, 1, 8, 8)),))
    assert type(open_source(identify("best.safetensors"), options, whole).module).__name__ == "Net"


def test_a_class_that_is_gone_is_named_with_the_way_around_it(whole: Path) -> None:
    (whole / "net.py").rename(whole / "renamed.py")
    with pytest.raises(SourceDoesNotRun) as caught:
        open_source(identify("best.pt"), Options(trust_pickle=True), whole)
    assert caught.value.why == "there is no module `net`"
    assert caught.value.fix.startswith("run mlconv in the folder of the project that holds `net`")
    assert "mlconv onnx FILE.py:NAME --weights best.pt" in caught.value.fix
    options = Options(weights="best.pt", input=(InputOption("x", (1, 1, 8, 8)),))
    assert open_source(identify("renamed.py:make"), options, whole).weights == "best.pt"


def test_a_class_of_the_script_that_saved_it_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import __main__

    class Net(torch.nn.Linear):
        pass

    Net.__module__, Net.__qualname__ = "__main__", "Net"
    monkeypatch.setattr(__main__, "Net", Net, raising=False)
    torch.save(Net(2, 2), folder / "m.pt")
    monkeypatch.delattr(__main__, "Net")
    with pytest.raises(SourceDoesNotRun) as caught:
        open_source(identify("m.pt"), Options(trust_pickle=True), folder)
    assert "it was defined in the script or notebook that saved it" in str(caught.value.why)
    assert caught.value.fix.startswith("mlconv onnx FILE.py:NAME --weights m.pt")


# ------------------------------------------------------------------ which of several


def test_of_two_state_dicts_the_one_that_was_taken_is_told_and_the_other_can_be_had(folder: Path) -> None:
    other = {name: tensor + 1 for name, tensor in state().items()}
    torch.save({"state_dict": state(), "ema_state_dict": other, "optimizer": {}}, folder / "w.pth")
    found = read_weights(folder / "w.pth")
    module, fit = load(found)
    assert agrees(module, state())
    assert fit.notes == (
        "the weights under `state_dict` of w.pth were taken; --weights-prefix ema_state_dict. takes others that fit",
    )
    module, fit = load(found, prefix="ema_state_dict.")
    assert agrees(module, other)


def test_a_part_is_laid_into_the_module_that_wraps_it(folder: Path) -> None:
    (folder / "wrapped.py").write_text(
        "import torch\nfrom net import make\nclass Inner(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.net = make()\nclass Outer(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.inner = Inner()\n"
    )
    sys.modules.pop("wrapped", None)
    module, fit = load(Weights("w.pth", state()), "wrapped.py:Outer")
    assert agrees(module.inner.net, state())
    assert fit == Fit(())


def test_a_prefix_of_any_name_is_found_where_one_alone_fits(folder: Path) -> None:
    wrapped = {f"detector.backbone.{name}": tensor for name, tensor in state().items()} | {
        "detector.head.bias": torch.ones(1)
    }
    module, fit = load(Weights("w.pth", wrapped))
    assert agrees(module, state())
    assert fit.left_out == ("detector.head.bias",)
    assert fit.notes[0] == "the weights under `detector.backbone.` of w.pth were taken"


def test_where_several_parts_fit_the_user_chooses(folder: Path) -> None:
    twins = {
        f"{side}.{name}": tensor + number
        for number, side in enumerate(("left", "right"))
        for name, tensor in state().items()
    }
    error = mismatch(Weights("w.pth", twins))
    assert error.what == "2 parts of `w.pth` fit the module: `left.`, `right.`"
    assert error.fix == "--weights-prefix left."
    module, _ = load(Weights("w.pth", twins), prefix="right.")
    assert agrees(module, {name: tensor + 1 for name, tensor in state().items()})


@pytest.mark.parametrize("prefix", ["module.net.", "module.net"])
def test_a_prefix_is_taken_off_exactly(folder: Path, prefix: str) -> None:
    wrapped = {f"module.net.{name}": tensor for name, tensor in state().items()}
    module, _ = load(Weights("w.pth", wrapped), prefix=prefix)
    assert agrees(module, state())


def test_a_prefix_that_is_not_there_tells_those_that_are(folder: Path) -> None:
    wrapped = {f"model.{name}": tensor for name, tensor in state().items()}
    error = mismatch(Weights("w.pth", wrapped), prefix="modle.")
    assert error.what == "no tensor of `w.pth` has a name that begins with `modle.`"
    assert str(error.why).startswith("their prefixes are `model.` (9 tensors), `model.norm.` (5 tensors)")
    assert error.fix == "--weights-prefix model."


def test_parts_that_were_wrapped_one_by_one_are_laid_in(folder: Path) -> None:
    wrapped = {
        name.replace("conv.", "conv.module.").replace("fc.", "fc._orig_mod."): tensor
        for name, tensor in state().items()
    }
    assert any("module" in name for name in wrapped)
    module, _ = load(Weights("w.pth", wrapped))
    assert agrees(module, state())


# ------------------------------------------------------------------ dtypes


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_weights_of_another_precision_are_converted_and_told(folder: Path, dtype: str) -> None:
    narrow = {
        name: t.to(getattr(torch, dtype)) if t.is_floating_point() else t for name, t in state().items()
    }
    module, fit = load(Weights("w.pth", narrow))
    assert next(module.parameters()).dtype == torch.float32
    assert agrees(module, narrow)
    assert fit.notes == (f"the weights are {dtype} and were converted to float32",)


def test_weights_are_not_rounded_by_a_constructor_of_half_precision(folder: Path) -> None:
    torch.save(state(), folder / "w.pth")
    options = Options(weights="w.pth", input=(InputOption("x", (1, 1, 8, 8)),))
    source = open_source(identify("net.py:half"), options, folder)
    assert agrees(source.module, state())
    assert source.warnings == []


def test_integers_in_the_place_of_numbers_are_refused(folder: Path) -> None:
    packed = state() | {"fc.weight": torch.ones(3, 6, dtype=torch.int8)}
    error = mismatch(Weights("w.pth", packed))
    assert error.what == "`w.pth` does not fit the module: 1 quantized"
    assert "`fc.weight` int8 where the module has float32" in str(error.why)


def test_quantized_tensors_are_dequantized_and_told(folder: Path) -> None:
    quantized = state()
    quantized["fc.weight"] = torch.quantize_per_tensor(torch.full((3, 6), 0.5), 0.25, 0, torch.qint8)
    torch.save(quantized, folder / "w.pth")
    module, fit = load(read_weights(folder / "w.pth"))
    assert torch.equal(module.fc.weight, torch.full((3, 6), 0.5))
    assert fit.notes == ("1 tensor is quantized and was dequantized: `fc.weight`",)


def test_tied_weights_are_stored_once_and_loaded_twice(folder: Path) -> None:
    tied = trained("net.py:Tied")
    safetensors.save_model(tied, folder / "w.safetensors")
    found = read_weights(folder / "w.safetensors")
    assert len(found.tensors) == 1
    module, _ = load(found, "net.py:Tied")
    assert torch.equal(module.head.weight, tied.table.weight)
    assert torch.equal(module.table.weight, tied.table.weight)


def test_a_module_on_the_meta_device_takes_its_values_from_the_file(folder: Path) -> None:
    torch.save(state(), folder / "w.pth")
    options = Options(weights="w.pth", input=(InputOption("x", (1, 1, 8, 8)),))
    assert agrees(open_source(identify("net.py:on_meta"), options, folder).module, state())


# ------------------------------------------------------------------ what does not fit


@pytest.mark.parametrize(
    ("ref", "fix"),
    [
        ("net.py:make", "'net.py:make(num_classes=21)'"),
        ("net.py:make(3)", "'net.py:make(21)'"),
        ("net.py:Net(hidden=6)", "'net.py:Net(hidden=6, num_classes=21)'"),
        ("net.py:wide", "'net.py:wide(outputs=21)'"),
        ("net.py:loose(num_classes=3)", "'net.py:loose(num_classes=21)'"),
        ("net.py:loose", "'net.py:loose(num_classes=21)'"),
    ],
)
def test_another_number_of_classes_is_cured_by_what_the_hint_says(folder: Path, ref: str, fix: str) -> None:
    weights = Weights("w.pth", state("net.py:make(21)"))
    error = mismatch(weights, ref)
    assert error.what == "`w.pth` does not fit the module: 2 of another shape"
    assert error.fix == fix
    module, _ = load(weights, fix.strip("'"))
    assert module.fc.out_features == 21


def test_another_architecture_is_called_so(folder: Path) -> None:
    foreign = {f"blocks.{number}.weight": torch.ones(2, 2) for number in range(20)}
    error = mismatch(Weights("w.pth", foreign))
    assert str(error.why).startswith(
        "this looks like another architecture: the file has 0 of the 9 tensors that the module has"
    )
    assert "in place of `net.py:make`" in error.fix


def test_a_smaller_network_of_the_same_kind_is_not_called_another(folder: Path) -> None:
    error = mismatch(Weights("w.pth", state() | {"fc2.weight": torch.ones(2, 2)}))
    assert error.what == "`w.pth` does not fit the module: 1 unexpected"
    assert "another architecture" not in str(error.why)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (
            lambda: torch.optim.SGD(trained().parameters(), lr=0.1, momentum=0.9).state_dict(),
            "the state of an optimizer",
        ),
        (lambda: {"optimizer": {"lr": torch.ones(1)}, "epoch": 3}, "`optimizer`"),
    ],
)
def test_what_belongs_to_a_training_alone_is_no_model(
    folder: Path, value: Callable[[], object], told: str
) -> None:
    torch.save(value(), folder / "w.pth")
    with pytest.raises(UnknownFormat) as caught:
        identify("w.pth")
    assert told in str(caught.value.why)
    with pytest.raises(WeightsMismatch, match="holds no state dict") as refused:
        read_weights(folder / "w.pth")
    assert told in str(refused.value.why)


def test_an_empty_state_dict_is_told(folder: Path) -> None:
    torch.save(torch.nn.ReLU().state_dict(), folder / "w.pth")
    with pytest.raises(WeightsMismatch) as caught:
        read_weights(folder / "w.pth")
    assert "it was saved of a module without parameters" in str(caught.value.why)


def test_a_prefix_without_weights_is_a_wrong_call(folder: Path) -> None:
    with pytest.raises(MlconvError) as caught:
        open_source(identify("net.py:make"), Options(weights_prefix="a."), folder)
    assert (caught.value.exit, caught.value.fix) == (2, "--weights FILE --weights-prefix a.")


def test_a_checkpoint_gives_the_numbers_of_the_module_that_was_trained(folder: Path) -> None:
    torch.save(lightning(Settings()), folder / "last.ckpt")
    options = Options(module="net.py:make", input=(InputOption("x", (2, 1, 8, 8)),))
    source = open_source(identify("last.ckpt"), options, folder)
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 1, 8, 8)).astype(np.float32))
    assert torch.equal(source.module(image), trained()(image))
    assert source.weights == "last.ckpt"


# ------------------------------------------------------------------ what stands beside the tensors

STATEFUL = """\
import torch

class Versioned(torch.nn.Module):
    _version = 2

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(2, 2))

    def _load_from_state_dict(self, state, prefix, metadata, *rest):
        if (metadata.get("version") or 1) < 2:
            if prefix + "old" in state:
                state[prefix + "w"] = state.pop(prefix + "old")
            state[prefix + "w"] = state[prefix + "w"].t()
        super()._load_from_state_dict(state, prefix, metadata, *rest)

class Scaled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(2))
        self.scale = {"by": 1.0}

    def get_extra_state(self):
        return self.scale

    def set_extra_state(self, value):
        self.scale = value

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.part = Versioned()
        self.scaled = Scaled()

class Integers(torch.nn.Module):
    def __init__(self, dtype=torch.int8):
        super().__init__()
        self.register_buffer("k", torch.zeros(3, dtype=dtype))

def halves():
    return Integers(torch.float16)

def real():
    return Integers(torch.float32)

def complexes():
    return Integers(torch.complex64)
"""
NUMBERS = [[1.0, 2.0], [3.0, 4.0]]


@pytest.fixture
def stateful(folder: Path) -> Path:
    (folder / "stateful.py").write_text(STATEFUL)
    sys.modules.pop("stateful", None)
    return folder


def kept(extra: object) -> Any:
    """What a training saves of a network that has versions and extra state."""
    module: Any = torch_ref.build("stateful.py:Net", seed=1)
    module.part.w.data = torch.tensor(NUMBERS)
    module.scaled.scale = extra
    return module.state_dict()


def wrapped(state: Any) -> Any:
    found = type(state)((f"module.{key}", value) for key, value in state.items())
    found._metadata = {f"module.{key}" if key else "module": told for key, told in state._metadata.items()}
    return found


@pytest.mark.parametrize("around", [lambda state: state, wrapped], ids=["plain", "wrapped"])
@pytest.mark.parametrize(
    "save",
    [lambda state: state, lambda state: {"state_dict": state, "hparams": argparse.Namespace(lr=1)}],
    ids=["loaded", "read"],
)
def test_versions_and_extra_state_reach_the_module(save: Any, around: Any, stateful: Path) -> None:
    torch.save(save(around(kept({"by": 5.0}))), "w.pth")
    module, fit = load(read_weights(stateful / "w.pth"), "stateful.py:Net")
    assert module.part.w.tolist() == NUMBERS
    assert module.scaled.scale == {"by": 5.0}
    assert fit.notes == ()


def test_what_a_module_migrates_for_want_of_a_version_is_told(stateful: Path) -> None:
    module, fit = load(Weights("w.pth", {"w": torch.tensor(NUMBERS)}), "stateful.py:Versioned")
    assert module.w.tolist() == [[1.0, 3.0], [2.0, 4.0]]
    (note,) = fit.notes
    assert "changed 1 tensor of w.pth" in note
    assert "does not tell which version" in note


def test_names_that_the_module_itself_migrates_fit(stateful: Path) -> None:
    module, fit = load(Weights("w.pth", {"old": torch.tensor(NUMBERS)}), "stateful.py:Versioned")
    assert module.w.tolist() == [[1.0, 3.0], [2.0, 4.0]]
    assert "under names of its own" in fit.notes[0]
    assert "missing" in mismatch(Weights("w.pth", {"x": torch.tensor(NUMBERS)}), "stateful.py:Net").what


def test_extra_state_that_only_loading_gives_asks_for_consent(stateful: Path) -> None:
    torch.save({"state_dict": kept({"by": [5.0]}), "hparams": argparse.Namespace(lr=1)}, "w.pth")
    with pytest.raises(UntrustedPickle, match=r"scaled\._extra_state"):
        load(read_weights(stateful / "w.pth"), "stateful.py:Net")
    module, _ = load(read_weights(stateful / "w.pth", trusted=True), "stateful.py:Net")
    assert module.scaled.scale == {"by": [5.0]}


@pytest.mark.parametrize(
    "extra", [torch.tensor([2.0, 3.0]), ("a", {"b": None}), 7], ids=["tensor", "tuple", "int"]
)
def test_extra_state_of_plain_data_is_read_without_loading(extra: Any, stateful: Path) -> None:
    torch.save({"state_dict": kept(extra), "hparams": argparse.Namespace(lr=1)}, "w.pth")
    module: Any = load(read_weights(stateful / "w.pth"), "stateful.py:Net")[0]
    assert type(module.scaled.scale) is type(extra)
    assert (
        torch.equal(module.scaled.scale, extra)
        if isinstance(extra, torch.Tensor)
        else module.scaled.scale == extra
    )


def test_extra_state_that_the_file_lacks_is_refused(stateful: Path) -> None:
    error = mismatch(Weights("w.pth", {"w": torch.ones(2)}), "stateful.py:Scaled")
    assert "lacks `_extra_state`" in error.what


# ------------------------------------------------------------------ numbers that do not fit


@pytest.mark.parametrize(
    ("numbers", "ref"),
    [
        (torch.tensor([300.7, 2.0, 1.0]), "Integers"),
        (torch.tensor([0.5, 2.0, 1.0]), "Integers"),
        (torch.tensor([300, 2, 1]), "Integers"),
        (torch.tensor([1e30, 2.0, 1.0]), "halves"),
        (torch.tensor([1j, 2.0, 1.0]), "real"),
    ],
)
def test_numbers_that_the_module_cannot_hold_are_refused(numbers: Any, ref: str, stateful: Path) -> None:
    assert "cannot" in mismatch(Weights("w.pth", {"k": numbers}), f"stateful.py:{ref}").what


def test_numbers_that_another_dtype_holds_as_they_are_fit(stateful: Path) -> None:
    for numbers, ref in [(torch.tensor([3.0, -2.0, 1.0]), "Integers"), (torch.tensor([3, 2, 1]), "Integers")]:
        module, _ = load(Weights("w.pth", {"k": numbers}), f"stateful.py:{ref}")
        assert module.k.tolist() == numbers.tolist()
    nan = torch.tensor([float("nan"), float("inf"), 1.0], dtype=torch.float64)
    assert load(Weights("w.pth", {"k": nan}), "stateful.py:halves")[0].k.isnan().tolist() == [
        True,
        False,
        False,
    ]


def test_weights_that_the_module_ties_and_the_file_does_not_are_refused(folder: Path) -> None:
    one, other = torch.ones(5, 4), torch.zeros(5, 4)
    error = mismatch(Weights("w.pth", {"table.weight": one, "head.weight": other}), "net.py:Tied")
    assert "`head.weight`" in error.what
    assert "`table.weight`" in error.what
    load(Weights("w.pth", {"table.weight": one, "head.weight": one.clone()}), "net.py:Tied")


@pytest.mark.parametrize(
    "turn",
    [lambda z: z.conj().imag, lambda z: z.conj(), lambda z: z.conj().imag[1:]],
    ids=["negative", "conjugate", "part"],
)
def test_lazy_bits_of_a_tensor_are_applied_to_its_numbers(turn: Any, folder: Path) -> None:
    lazy = turn(torch.tensor([1 + 2j, 3 - 4j, 5j]))
    torch.save({"state_dict": {"k": lazy}, "hparams": argparse.Namespace(lr=1)}, "w.pth")
    found = read_weights(folder / "w.pth").tensors["k"]
    assert found.tolist() == lazy.tolist()


# ------------------------------------------------------------------ which of several


def test_a_tensor_comes_from_the_shard_that_the_index_names(folder: Path) -> None:
    safetensors.save_file({"w": torch.ones(2)}, "1.safetensors")
    safetensors.save_file({"b": torch.ones(2), "w": torch.zeros(2)}, "2.safetensors")
    index = folder / "m.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": "1.safetensors", "b": "2.safetensors"}}))
    found = read_weights(index)
    assert found.tensors["w"].tolist() == [1.0, 1.0]
    index.write_text(json.dumps({"weight_map": {"w": "1.safetensors", "b": "1.safetensors"}}))
    with pytest.raises(Corrupt, match=r"`b` in `1\.safetensors`, which does not hold it"):
        read_weights(index)


def test_other_weights_are_told_wherever_they_stand(folder: Path) -> None:
    last = state()
    ema = {name: tensor + 1 for name, tensor in last.items()}
    torch.save({"model": {"state_dict": last, "ema": ema}, "optimizer": {"mean": last}}, "w.pth")
    weights = read_weights(folder / "w.pth")
    assert list(weights.rivals) == ["model.ema"]
    module, fit = load(weights)
    assert agrees(module, last)
    assert "--weights-prefix model.ema. takes others" in fit.notes[0]
    assert agrees(load(weights, prefix="model.ema.")[0], ema)
    assert agrees(load(weights, prefix="model.state_dict.")[0], last)
