"""Loading PyTorch sources: REFs, weights, TorchScript and pickles."""

from __future__ import annotations

import json
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")

from mlconv.convert.job import Options  # noqa: E402
from mlconv.convert.torch_import import ref as torch_ref  # noqa: E402
from mlconv.convert.torch_import import script as torch_script  # noqa: E402
from mlconv.convert.torch_import import weights as torch_weights  # noqa: E402
from mlconv.convert.torch_import.checkpoint import Weights  # noqa: E402
from mlconv.convert.torch_import.source import open_runner  # noqa: E402
from mlconv.convert.trust import assert_trusted  # noqa: E402
from mlconv.errors import (  # noqa: E402
    Corrupt,
    ExternalDataMissing,
    InputError,
    MissingFile,
    ModuleNeeded,
    PathEscape,
    RefNotFound,
    SourceDoesNotRun,
    UntrustedOperator,
    UntrustedPickle,
    UserCodeRaised,
    WeightsMismatch,
    WrongFormat,
)
from mlconv.formats import ModelFile  # noqa: E402
from mlconv.formats import weights as weights_file  # noqa: E402
from mlconv.formats.refs import parse_ref  # noqa: E402
from mlconv.input_grammar import parse_input  # noqa: E402

pytestmark = [pytest.mark.framework("torch"), pytest.mark.filterwarnings("ignore")]
NETS = Path(__file__).with_name("torch_nets.py")


def net(name: str = "Residual") -> Any:
    return torch_ref.build(f"{NETS}:{name}")


def built(module: Any) -> torch_ref.Built:
    return torch_ref.Built(module, parse_ref("net.py:make"))


class Bomb:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return Path.touch, (self.canary,)


# ------------------------------------------------------------------ REFs


def test_a_ref_names_a_class_a_function_or_an_instance():
    assert type(net("Residual(4)")).__name__ == "Residual"
    assert net("Residual(channels=4)").head.in_features == 4
    assert type(net("encoder")).__name__ == "TransformerEncoder"
    assert type(net("instance")).__name__ == "Linear"
    assert not net("encoder").training


def test_a_ref_names_a_package_too():
    assert torch_ref.build("torch.nn:Linear(3, 2)").out_features == 2


def test_the_seed_decides_the_parameters():
    same = [next(torch_ref.build(f"{NETS}:Residual", seed).parameters()) for seed in (5, 5, 6)]
    assert torch.equal(same[0], same[1])
    assert not torch.equal(same[1], same[2])


def test_files_beside_the_ref_import_and_never_hide_a_library(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "beside.py").write_text("import torch\nlayer = torch.nn.Linear(2, 2)\n")
    (tmp_path / "json.py").write_text("raise RuntimeError('shadowed')\n")
    (tmp_path / "own.py").write_text("import json, beside\nnet = beside.layer\n")
    assert torch_ref.build(f"{tmp_path}/own.py:net").in_features == 2


def test_a_file_of_a_librarys_name_does_not_stand_in_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "wave.py").write_text(
        "import torch, wave\nWave = wave.Wave_read\nnet = torch.nn.Linear(2, 2)\n"
    )
    sys.modules.pop("wave", None)
    assert torch_ref.build(f"{tmp_path}/wave.py:net").in_features == 2


@pytest.mark.parametrize(
    ("name", "error", "told"),
    [
        ("cannot_be_built", UserCodeRaised, "KeyError"),
        ("no_module", RefNotFound, "gives an int"),
        ("Residuel", RefNotFound, "has no `Residuel`"),
    ],
)
def test_what_a_ref_cannot_be_is_told(name, error, told):
    with pytest.raises(error, match=told):
        net(name)


def test_the_nearest_name_is_typed_out():
    with pytest.raises(RefNotFound) as caught:
        net("Residuel(4)")
    assert caught.value.fix.endswith("torch_nets.py:Residual(4)'")


def test_a_missing_file_and_a_missing_module_differ():
    with pytest.raises(MissingFile):
        torch_ref.build("nowhere.py:make")
    with pytest.raises(RefNotFound, match=r"no module `nowhere\.at_all`"):
        torch_ref.build("nowhere.at_all:make")


def test_a_file_that_raises_or_exits_is_the_users(tmp_path):
    for number, body in enumerate(("1 / 0", "import sys; sys.exit(0)", "def broken(:")):
        (tmp_path / f"own{number}.py").write_text(body)
        with pytest.raises(UserCodeRaised, match="importing"):
            torch_ref.build(f"{tmp_path}/own{number}.py:make")


# ------------------------------------------------------------------ weights


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3},
        lambda state: {
            "model": {f"_orig_mod.{key}": value for key, value in state.items()},
            "loss": np.float64(1.5),
        },
        lambda state: {"net": {f"module._orig_mod.{key}": value for key, value in state.items()}},
        lambda state: {
            "state_dict": {"criterion.weight": torch.ones(2)} | {f"model.{k}": v for k, v in state.items()}
        },
        lambda state: {key: value for key, value in state.items() if "num_batches" not in key},
    ],
    ids=["plain", "state_dict", "model", "net", "lightning", "torch-0.4"],
)
def test_wrapped_checkpoints_are_unwrapped(tmp_path, wrap):
    torch.manual_seed(9)
    trained = net()
    for value in trained.state_dict().values():
        value.add_(1)
    torch.save(wrap(trained.state_dict()), tmp_path / "w.pth")
    fresh = net()
    torch_weights.load_weights(built(fresh), torch_weights.read_weights(tmp_path / "w.pth"))
    image = torch.randn(1, 3, 8, 8)
    assert torch.equal(fresh.eval()(image), trained.eval()(image))


def test_tensors_that_are_not_the_modules_are_told(tmp_path):
    state = {f"model.{key}": value for key, value in net().state_dict().items()} | {
        "criterion.weight": torch.ones(2)
    }
    assert torch_weights.load_weights(built(net()), Weights("w.pth", state)).left_out == ("criterion.weight",)


def test_a_mismatch_lists_everything_with_the_nearest_names():
    state = {key.replace("stem", "steem"): value for key, value in net().state_dict().items()}
    state["head.weight"] = torch.zeros(7, 8)
    with pytest.raises(WeightsMismatch, match="2 missing, 2 unexpected, 1 of another shape") as caught:
        torch_weights.load_weights(built(net()), Weights("w.pth", state))
    assert "`stem.weight` (the file has `steem.weight`)" in str(caught.value.why)
    assert "`head.weight` [7, 8] where the module has [5, 8]" in str(caught.value.why)


def test_safetensors_and_their_index_are_read(tmp_path):
    state = {key: value.contiguous() for key, value in net().state_dict().items()}
    names = sorted(state)
    for number, part in enumerate((names[:4], names[4:])):
        safetensors.save_file({name: state[name] for name in part}, tmp_path / f"{number}.safetensors")
    index = {"weight_map": {name: f"{int(i >= 4)}.safetensors" for i, name in enumerate(names)}}
    (tmp_path / "m.safetensors.index.json").write_text(json.dumps(index))
    assert sorted(torch_weights.read_state(tmp_path / "m.safetensors.index.json")) == names
    (tmp_path / "1.safetensors").unlink()
    with pytest.raises(ExternalDataMissing, match=r"1\.safetensors"):
        torch_weights.read_state(tmp_path / "m.safetensors.index.json")
    (tmp_path / "m.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../../etc/passwd"}}))
    with pytest.raises(PathEscape):
        torch_weights.read_state(tmp_path / "m.safetensors.index.json")


def test_a_pickle_among_weights_is_refused_unrun(tmp_path):
    canary = tmp_path / "canary"
    torch.save({"state_dict": {"a": torch.ones(1)}, "config": Bomb(canary)}, tmp_path / "w.pth")
    with pytest.raises(UntrustedPickle):
        torch_weights.read_state(tmp_path / "w.pth")
    assert not canary.exists()
    assert list(torch_weights.read_state(tmp_path / "w.pth", trusted=True)) == ["a"]
    assert canary.exists()


def test_weights_are_read_by_what_they_are_and_not_by_their_suffix(tmp_path):
    state = {"a": torch.arange(3.0)}
    safetensors.save_file(state, tmp_path / "w.bin")
    torch.save(state, tmp_path / "w.safetensors")
    (tmp_path / "index").write_text(json.dumps({"weight_map": {"a": "w.bin"}}))
    for name in ("w.bin", "w.safetensors", "index"):
        assert torch.equal(torch_weights.read_state(tmp_path / name)["a"], state["a"])


def test_a_shard_behind_a_link_that_leads_outside_is_an_escape(tmp_path):
    (tmp_path / "model").mkdir()
    safetensors.save_file({"a": torch.ones(1)}, tmp_path / "secret.safetensors")
    (tmp_path / "model" / "1.safetensors").symlink_to(tmp_path / "secret.safetensors")
    index = tmp_path / "model" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "1.safetensors"}}))
    with pytest.raises(PathEscape):
        torch_weights.read_state(index)


@pytest.mark.parametrize(
    "checkpoint",
    [
        {"ema": {"a": torch.ones(1)}, "state_dict": {"b": torch.ones(2)}},
        {"generator": {"a": torch.ones(1)}, "discriminator": {"b": torch.ones(2)}, "epoch": 3},
        {"critic": {"a": torch.ones(1)}, "epoch": 3},
        {"model": {"state_dict": {"a": torch.ones(1)}, "epoch": 3}, "optimizer": {"state": {}}},
        {"a": torch.ones(1), "extra": 3, "more": "text", "third": [1]},
        {"optimizer": {"lr": torch.ones(1)}, "model": {"a": torch.ones(1)}},
    ],
)
def test_the_state_dict_that_is_loaded_is_the_one_that_is_described(tmp_path, checkpoint):
    torch.save(checkpoint, tmp_path / "w.pth")
    described = weights_file.weights_index(tmp_path / "w.pth")
    read = torch_weights.read_state(tmp_path / "w.pth")
    assert {name: tuple(tensor.shape) for name, tensor in read.items()} == {
        name: spec.shape for name, spec in described.items()
    }


def test_a_trusted_pickle_that_cannot_be_loaded_is_an_error_of_ours(tmp_path):
    gone = b"cgone_away\nNet\n."
    (tmp_path / "w.pth").write_bytes(gone)
    with pytest.raises(UntrustedPickle, match="would run code"):
        torch_weights.read_state(tmp_path / "w.pth")
    with pytest.raises(SourceDoesNotRun, match="cannot be imported"):
        torch_weights.read_state(tmp_path / "w.pth", trusted=True)


def test_broken_weights_are_corrupt(tmp_path):
    torch.save(net().state_dict(), tmp_path / "w.pth")
    (tmp_path / "w.pth").write_bytes((tmp_path / "w.pth").read_bytes()[:-200])
    (tmp_path / "w.safetensors").write_bytes(b"\0" * 20)
    for name in ("w.pth", "w.safetensors"):
        with pytest.raises(Corrupt):
            torch_weights.read_state(tmp_path / name)
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    with pytest.raises(WeightsMismatch, match="no state dict"):
        torch_weights.read_state(tmp_path / "none.pth")


# ------------------------------------------------------------------ TorchScript


class Saves(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, "canary.bin")
        return x


class SavesAtLoad(torch.nn.Module):
    @torch.jit.export
    def __getstate__(self) -> tuple[int, bool]:
        return 1, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[int, bool]) -> None:
        self.training = state[1]
        torch.save(torch.ones(1), "canary.bin")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.parametrize("kind", [Saves, SavesAtLoad])
def test_torchscript_that_opens_files_is_refused_before_it_is_loaded(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    torch.jit.script(kind()).save("m.pt")
    with pytest.raises(UntrustedOperator, match="save"):
        torch_script.load(tmp_path / "m.pt", "m.pt")
    assert not (tmp_path / "canary.bin").exists()


def test_broken_torchscript_is_an_input_error(tmp_path):
    torch.jit.script(net("Scriptable")).save(tmp_path / "m.pt")
    data = (tmp_path / "m.pt").read_bytes()
    for cut in (10, len(data) // 2, len(data) - 60):
        (tmp_path / "cut.pt").write_bytes(data[:cut])
        with pytest.raises((InputError, SourceDoesNotRun)):
            torch_script.load(tmp_path / "cut.pt", "cut.pt")
    with zipfile.ZipFile(tmp_path / "none.pt", "w") as archive:
        archive.writestr("x/readme", "")
    with pytest.raises((InputError, SourceDoesNotRun)):
        torch_script.load(tmp_path / "none.pt", "none.pt")


# ------------------------------------------------------------------ runners


def runner(path: Path, format_: str, *inputs: str, **options: Any) -> Any:
    model = ModelFile(str(path), path, format_)  # type: ignore[arg-type]
    return open_runner(model, Options(input=tuple(map(parse_input, inputs)), **options))


def test_weights_need_their_module(tmp_path):
    torch.save(net().state_dict(), tmp_path / "w.pth")
    with pytest.raises(ModuleNeeded):
        runner(tmp_path / "w.pth", "torch-weights", "1,3,8,8")
    opened = runner(tmp_path / "w.pth", "torch-weights", "batch,3,8,8", module=f"{NETS}:Residual")
    image = np.ones((3, 3, 8, 8), np.float32)
    found = opened.run({"image": image})["output"]
    np.testing.assert_allclose(found, net()(torch.from_numpy(image)).detach().numpy(), atol=1e-6)


def test_a_pickled_module_needs_consent(tmp_path):
    canary = tmp_path / "canary"
    (tmp_path / "bad.pt").write_bytes(pickle.dumps(Bomb(canary)))
    with pytest.raises(UntrustedPickle):
        runner(tmp_path / "bad.pt", "torch-pickle", "1,4")
    assert not canary.exists()


@pytest.mark.parametrize(
    "wrap",
    [lambda m: m, lambda m: {"ema": None, "model": m.half()}, torch.nn.DataParallel],
    ids=["module", "checkpoint", "parallel"],
)
def test_a_pickled_module_is_found_in_its_checkpoint(tmp_path, wrap):
    torch.save(wrap(torch.nn.Sequential(torch.nn.Linear(4, 2))), tmp_path / "m.pt")
    opened = runner(tmp_path / "m.pt", "torch-pickle", "batch,4", trust_pickle=True)
    assert opened.run({"input": np.ones((2, 4), np.float32)})["output"].dtype == np.float32


def test_pickles_without_their_class_or_module_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "gone.py").write_text("import torch\nclass Net(torch.nn.Linear): pass\n")
    sys.path.append(str(tmp_path))
    import gone  # type: ignore[import-not-found]

    torch.save(gone.Net(2, 2), tmp_path / "m.pt")
    del sys.modules["gone"]
    (tmp_path / "gone.py").unlink()
    with pytest.raises(SourceDoesNotRun, match="class that cannot be imported"):
        runner(tmp_path / "m.pt", "torch-pickle", "1,2", trust_pickle=True)
    torch.save({"optimizer": 3}, tmp_path / "n.pt")
    with pytest.raises(WrongFormat, match=r"no nn\.Module"):
        runner(tmp_path / "n.pt", "torch-pickle", "1,2", trust_pickle=True)


@pytest.mark.parametrize("weights", ["net_ts.pt", "net.pt2"])
def test_a_whole_network_as_weights_is_told_to_convert_by_itself(tmp_path, monkeypatch, weights):
    monkeypatch.chdir(tmp_path)
    net = torch.nn.Linear(4, 2)
    if weights.endswith(".pt"):
        torch.jit.script(net).save(weights)
    else:
        torch.export.save(torch.export.export(net, (torch.ones(1, 4),)), weights)
    with pytest.raises(WrongFormat, match="a whole network, and --weights takes a state dict") as caught:
        assert_trusted(ModelFile("net.py:make", None, "torch-module"), Options(weights=weights))
    assert caught.value.fix.startswith(f"convert it itself: mlconv onnx {weights}; or save")
    exec(caught.value.fix.partition("holds: ")[2], {"torch": torch})
    assert_trusted(ModelFile("net.py:make", None, "torch-module"), Options(weights="weights.pth"))


def test_public_checkpoints_are_read(models):
    found = {
        "ShiqiYu_libfacedetection.train/weights__yunet_n.pth": "bbox_head.multi_level_cls.0.conv1.weight",
        "tracel-ai_burn/crates__burn-store__src__pytorch__tests__reader__test_data__simple_legacy.pt": None,
    }
    for name, key in found.items():
        state = torch_weights.read_state(models / name)
        assert state, name
        assert key is None or key in state, list(state)[:5]
