"""Weights in checkpoints whose pickles torch would refuse, found and read without torch and without loading them."""

from __future__ import annotations

import argparse
import math
import os
import pickle
import random
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import pytest

from mlconv.errors import Corrupt
from mlconv.formats import torch_archive, torch_checkpoint, torch_storages, weights
from mlconv.formats.pickle_names import Global, is_of_data
from mlconv.formats.pickle_reader import Made, Pickle, Storage, Tensor, read
from mlconv.model import describe, identify

MAGIC = bytes.fromhex("8a0a6cfc9c46f9206aa850192e")


class Place:
    """Stands for a tensor: pickled as ``torch.save`` pickles one, on the storage of that key."""

    def __init__(
        self, key: str, shape: tuple[int, ...], rebuild: str = "_rebuild_tensor_v2", bits: object = None
    ) -> None:
        self.key, self.shape, self.rebuild, self.bits = key, shape, rebuild, bits


class Saver(pickle.Pickler):
    """As torch's own: storages by persistent ids, tensors as calls of ``torch._utils``."""

    def persistent_id(self, value: object) -> object:
        return value if isinstance(value, tuple) and value[:1] == ("storage",) else None

    def reducer_override(self, value: object) -> Any:
        if not isinstance(value, Place):
            return NotImplemented
        strides = (value.shape[-1], 1)[-len(value.shape) :]
        storage = ("storage", FloatStorage, value.key, "cpu", math.prod(value.shape))
        return globals()[value.rebuild], (storage, 0, value.shape, strides, False, OrderedDict(), value.bits)


def named(module: str, name: str) -> Any:
    """A function that pickles as one of another module."""

    def stand_in() -> None:
        raise AssertionError("nothing of a pickle is called")

    stand_in.__module__, stand_in.__qualname__, stand_in.__name__ = module, name, name
    return stand_in


FloatStorage = type("FloatStorage", (), {"__module__": "torch"})
_rebuild_tensor_v2 = named("torch._utils", "_rebuild_tensor_v2")
_rebuild_qtensor = named("torch._utils", "_rebuild_qtensor")


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pickling looks each name up; torch need not be installed for it."""
    utils = type(sys)("torch._utils")
    utils._rebuild_tensor_v2, utils._rebuild_qtensor = _rebuild_tensor_v2, _rebuild_qtensor  # type: ignore[attr-defined]
    torch = type(sys)("torch")
    torch.FloatStorage, torch._utils = FloatStorage, utils  # type: ignore[attr-defined]
    for name in [name for name in sys.modules if name.partition(".")[0] == "torch"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)


def dumped(value: object, protocol: int = 2) -> bytes:
    import io

    buffer = io.BytesIO()
    Saver(buffer, protocol).dump(value)
    return buffer.getvalue()


def saved(path: Path, value: object, storages: dict[str, bytes], *, big: bool = False) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", dumped(value))
        archive.writestr("net/byteorder", "big" if big else "little")
        for key, content in storages.items():
            archive.writestr(f"net/data/{key}", content)
    return path


STATE = {"fc.weight": Place("0", (2, 2)), "fc.bias": Place("1", (1,))}
STORAGES = {"0": b"\0\0\x80\x3f" * 4, "1": b"\0\0\0\x40"}
NAMESPACE = argparse.Namespace(lr=0.1)


def found(path: Path, *, modules: bool = False) -> torch_checkpoint.Checkpoint[Tensor] | None:
    return torch_checkpoint.find_checkpoint(torch_archive.read_any_pickle(path), modules=modules)


def test_settings_of_a_foreign_class_do_not_hide_the_weights(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.ckpt", {"state_dict": STATE, "hyper_parameters": NAMESPACE}, STORAGES)
    model = identify(str(path))
    assert model.format == "torch-weights"
    assert list(weights.weights_index(path)) == ["fc.weight", "fc.bias"]
    assert describe(model).parameters == 5


@pytest.mark.parametrize(
    "evil",
    [os.system, eval, getattr, subprocess.Popen, sys.exit, pickle.loads, OrderedDict.fromkeys],
    ids=["os", "eval", "getattr", "subprocess", "sys", "pickle", "method"],
)
def test_what_reaches_for_more_than_data_is_a_pickle_and_nothing_else(tmp_path: Path, evil: object) -> None:
    path = saved(tmp_path / "w.ckpt", {"state_dict": STATE, "hyper_parameters": evil}, STORAGES)
    assert identify(str(path)).format == "torch-pickle"
    assert not weights.is_readable(path)


@pytest.mark.parametrize(
    ("name", "claim"),
    [
        ("argparse.Namespace", True), ("pathlib.PosixPath", True), ("omegaconf.dictconfig.DictConfig", True),
        ("torch.nn.modules.loss.CrossEntropyLoss", True), ("numpy._core.multiarray._reconstruct", True), ("__main__.Config", True),
        ("typing.Any", True), ("posix.system", False), ("nt.system", False), ("builtins.exec", False), ("torch.load", False),
        ("torch.hub.load", False), ("numpy.load", False), ("runpy.run_path", False), ("cloudpickle.cloudpickle._make_function", False),
        ("?.?", False), ("shutil.rmtree", False), ("types.CodeType", False),
    ],
)  # fmt: skip
def test_names_of_data_are_told_from_names_that_act(name: str, claim: bool) -> None:
    module, _, last = name.rpartition(".")
    assert is_of_data(Global(module, last)) is claim


def test_a_dictionary_with_defaults_keeps_its_items(tmp_path: Path) -> None:
    state: dict[str, Any] = defaultdict(list)
    state.update(STATE)
    path = saved(tmp_path / "w.pth", {"state_dict": state, "settings": NAMESPACE}, STORAGES)
    checkpoint = found(path)
    assert checkpoint is not None
    assert list(checkpoint.tensors) == ["fc.weight", "fc.bias"]


def test_averaged_weights_beside_the_last_ones_are_rivals(tmp_path: Path) -> None:
    both = {
        "state_dict": STATE,
        "ema_state_dict": {f"module.{key}": value for key, value in STATE.items()},
        "head": {"a": Place("1", (1,))},
    }
    checkpoint = found(saved(tmp_path / "w.pth", both, STORAGES))
    assert checkpoint is not None
    assert checkpoint.under == ("state_dict",)
    assert list(checkpoint.rivals) == ["ema_state_dict"]


def test_a_tensor_that_needs_its_scale_is_not_read_beside_foreign_names(tmp_path: Path) -> None:
    state = STATE | {"q": Place("1", (1,), "_rebuild_qtensor")}
    assert found(saved(tmp_path / "w.pth", {"state_dict": state, "settings": NAMESPACE}, STORAGES)) is None
    assert found(saved(tmp_path / "v.pth", {"state_dict": state}, STORAGES)) is not None


@pytest.mark.parametrize("bits", [{"twist": True}, {"neg": 1}, "neg"])
def test_a_tensor_with_bits_that_nobody_knows_is_not_read_beside_foreign_names(
    bits: object, tmp_path: Path
) -> None:
    def kept(bits: object) -> bool:
        state = STATE | {"q": Place("1", (1,), bits=bits)}
        path = saved(tmp_path / "w.pth", {"state_dict": state, "settings": NAMESPACE}, STORAGES)
        return found(path) is not None

    assert kept({"neg": True, "conj": False})
    assert not kept(bits)


class Module:
    """Has what ``torch.nn.Module`` keeps its tensors in."""

    def __init__(
        self, parameters: dict[str, Any], parts: dict[str, Any], buffers: dict[str, Any], hidden: set[str]
    ) -> None:
        self._parameters, self._modules, self._buffers, self._non_persistent_buffers_set = (
            parameters,
            parts,
            buffers,
            hidden,
        )


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickled_module_gives_the_names_of_its_state_dict(protocol: int) -> None:
    part = Module({"weight": Place("0", (2, 2)), "bias": None}, {}, {}, set())
    whole = Module(
        {"scale": Place("1", (1,))},
        {"fc": part, "none": None},
        {"mean": Place("1", (1,)), "grid": Place("0", (2, 2))},
        {"grid"},
    )
    checkpoint = torch_checkpoint.find_checkpoint(
        read(dumped({"model": whole, "epoch": 3}, protocol)), modules=True
    )
    assert checkpoint is not None
    assert sorted(checkpoint.tensors) == ["fc.weight", "mean", "scale"]
    assert checkpoint.under == ("model",)


def test_a_module_is_no_state_dict_unless_asked_for(tmp_path: Path) -> None:
    module = Module({"weight": Place("0", (2, 2))}, {}, {}, set())
    path = saved(tmp_path / "w.pt", {"ema": None, "model": module}, STORAGES)
    assert found(path) is None
    assert identify(str(path)).format == "torch-pickle"
    assert weights.is_readable(path)


# ------------------------------------------------------------------ bytes


def tensor(key: str, elements: int = 1, dtype: str = "float32") -> Tensor:
    return Tensor(Storage(key, dtype, elements), dtype, (elements,), 0, (1,))


def test_storages_are_read_in_the_order_of_bytes_of_this_machine(tmp_path: Path) -> None:
    little = torch_storages.read_storages(
        saved(tmp_path / "a.pt", STATE, STORAGES), [tensor("1"), tensor("0", 4)]
    )
    turned = {
        key: b"".join(content[at : at + 4][::-1] for at in range(0, len(content), 4))
        for key, content in STORAGES.items()
    }
    big = torch_storages.read_storages(
        saved(tmp_path / "b.pt", STATE, turned, big=True), [tensor("1"), tensor("0", 4)]
    )
    assert little == big == {key: bytearray(content) for key, content in STORAGES.items()}


def test_of_a_complex_number_each_part_has_the_order_of_bytes(tmp_path: Path) -> None:
    parts = [struct.pack(f"{order}2f", 1.5, -2.5) for order in "<>"]
    for name, content, big in (("a.pt", parts[0], False), ("b.pt", parts[1], True)):
        path = saved(tmp_path / name, {}, {"0": content}, big=big)
        found = torch_storages.read_storages(path, [tensor("0", 1, "complex64")])
        assert struct.unpack("=2f", found["0"]) == (1.5, -2.5)


def legacy(path: Path, value: object, keys: list[str], storages: dict[str, bytes]) -> Path:
    head = b"\x80\x02" + MAGIC + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
    tail = b"".join((len(storages[key]) // 4).to_bytes(8, "little") + storages[key] for key in keys)
    path.write_bytes(head + dumped(value) + pickle.dumps(keys, 2) + tail)
    return path


def test_storages_behind_the_pickles_of_old_files_are_read(tmp_path: Path) -> None:
    path = legacy(tmp_path / "w.pth", {"state_dict": STATE, "settings": NAMESPACE}, ["1", "0"], STORAGES)
    assert identify(str(path)).format == "torch-weights"
    checkpoint = weights.read_checkpoint(path)
    read_ = torch_storages.read_storages(path, checkpoint.tensors.values())
    assert read_ == {key: bytearray(content) for key, content in STORAGES.items()}


def test_a_storage_that_is_not_there_is_corrupt(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pth", STATE, {"0": STORAGES["0"]})
    with pytest.raises(Corrupt):
        torch_storages.read_storages(path, [tensor("1")])
    with pytest.raises(Corrupt):
        torch_storages.read_storages(path, [tensor("0", 5)])


def test_damage_gives_the_bytes_or_a_named_error(tmp_path: Path) -> None:
    whole = legacy(
        tmp_path / "w.pth", {"state_dict": STATE, "settings": NAMESPACE}, ["0", "1"], STORAGES
    ).read_bytes()
    for seed in range(600):
        rng = random.Random(seed)
        hurt = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            hurt[rng.randrange(len(hurt))] = rng.randrange(256)
        path = tmp_path / "hurt.pth"
        path.write_bytes(hurt[: rng.randint(20, len(hurt))] if seed % 3 == 0 else hurt)
        try:
            checkpoint = found(path)
            if checkpoint is not None and checkpoint.tensors:
                torch_storages.read_storages(path, checkpoint.tensors.values())
        except Corrupt:
            continue


def module(parts: dict[str, Any], parameters: dict[str, Any] | None = None) -> Made:
    """A pickled module, as it is read."""
    attributes = {"_parameters": parameters or {}, "_buffers": {}, "_modules": parts}
    return Made(Global("net", "Net"), (), [attributes])


def test_a_module_that_is_a_part_of_itself_has_no_state_dict() -> None:
    whole = module({})
    whole.states[0]["_modules"].update(a=whole, b=whole)
    assert torch_checkpoint.module_state(whole) is None
    assert torch_checkpoint.find_checkpoint(Pickle(whole, [Global("net", "Net")]), modules=True) is None


def test_a_part_that_is_held_twice_is_told_twice_and_not_for_ever() -> None:
    weight = Tensor(Storage("0", "float32", 4), "float32", (4,), 0, (1,))
    nested = module({}, {"w": weight})
    assert torch_checkpoint.module_state(module({"a": nested, "b": nested})) == {"a.w": weight, "b.w": weight}
    for _ in range(90):
        nested = module({"a": nested, "b": nested})
    assert torch_checkpoint.module_state(nested) is None


def test_modules_nested_too_deep_are_not_read_in_part() -> None:
    weight = Tensor(Storage("0", "float32", 4), "float32", (4,), 0, (1,))
    nested = module({}, {"w": weight})
    for _ in range(500):
        nested = module({"a": nested})
    assert torch_checkpoint.module_state(module({"deep": nested}, {"w": weight})) is None


def test_elements_below_a_byte_are_not_read_without_loading() -> None:
    def kept(dtype: str) -> bool:
        weight = Tensor(Storage("0", dtype, 4), dtype, (4,), 0, (1,))
        root = {"state_dict": {"w": weight}, "settings": Made(Global("net", "Settings"))}
        return torch_checkpoint.find_checkpoint(Pickle(root, [Global("net", "Settings")])) is not None

    assert [dtype for dtype in ("float32", "uint8", "uint4", "int1", "float4_e2m1fn") if kept(dtype)] == ["float32", "uint8"]  # fmt: skip


def test_keys_that_cannot_be_written_out_are_left_out() -> None:
    assert torch_checkpoint.key_names(["a", 3, 10**5000, (1, 2), None]) == ["a", "3"]


def test_a_dictionary_that_many_keys_hold_is_looked_at_once() -> None:
    """A dictionary under a thousand keys of one under a thousand keys would be met a million times."""
    weight = Tensor(Storage("0", "float32", 4), "float32", (4,), 0, (1,))
    looked = 0

    class Counted(dict[str, Any]):
        def values(self) -> Any:
            nonlocal looked
            looked += 1
            return super().values()

    inner = Counted({"x": 1})
    middle = {f"m{number}": inner for number in range(1000)}
    root = {"state_dict": {"w": weight}, **{f"k{number}": middle for number in range(1000)}}
    found = torch_checkpoint.find_state(root, Tensor)
    assert found is not None
    assert looked < 10


def test_an_empty_pickle_has_no_weights() -> None:
    assert torch_checkpoint.find_checkpoint(Pickle(complete=False)) is None
