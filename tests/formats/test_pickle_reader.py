"""Pickles are read and never loaded."""

from __future__ import annotations

import os
import pickle
import random
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest

from mlconv.formats import pickle_reader
from mlconv.formats.pickle_names import Global, is_allowed
from mlconv.formats.pickle_reader import Made, PickleError, Tensor


class Payload:
    """Unpickling this leaves a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


def storage(key: bytes, kind: bytes = b"FloatStorage", elements: int = 6) -> bytes:
    return (
        b"(X\x07\0\0\0storagectorch\n"
        + kind
        + b"\nX\x01\0\0\0"
        + key
        + b"X\x03\0\0\0cpuK"
        + bytes([elements])
        + b"tQ"
    )


def tensor(key: bytes = b"0", kind: bytes = b"FloatStorage") -> bytes:
    """A tensor of shape (2, 3), as ``torch.save`` writes it."""
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n("
    return rebuild + storage(key, kind) + b"K\0(K\x02K\x03t(K\x03K\x01t\x89ccollections\nOrderedDict\n)RtR"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_come_back_as_they_were(protocol: int) -> None:
    value: dict[Any, Any] = {
        "a": [1, -2, 2**70, 1.5, True, None, "text", b"bytes"],
        "b": (1, (2, (3, 4, 5, 6))),
        "c": OrderedDict(x=1, y={"z": []}),
        7: "number",
    }
    found = pickle_reader.read(pickle.dumps(value, protocol))
    assert found.is_plain or protocol < 3  # protocols below 3 write bytes as a call of _codecs.encode
    assert found.root["a"][:7] == value["a"][:7]
    assert {key: found.root[key] for key in ("b", "c", 7)} == {key: value[key] for key in ("b", "c", 7)}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_payload_is_named_and_not_run(protocol: int, tmp_path: Path) -> None:
    data = pickle.dumps({"weight": Payload(tmp_path / "ran")}, protocol)
    found = pickle_reader.read(data)
    assert [name.name for name in found.foreign] == ["mkdir"]
    assert not found.is_plain
    assert isinstance(found.root["weight"], Made)
    assert not (tmp_path / "ran").exists()


def test_names_of_every_opcode_that_imports_are_seen() -> None:
    inst, obj = b"(ios\nsystem\n.", b"(cos\nsystem\nX\x02\0\0\0idoo."[:-2] + b"."
    assert pickle_reader.read(inst).foreign == [Global("os", "system")]
    assert pickle_reader.read(obj).foreign == [Global("os", "system")]
    assert pickle_reader.read(b"\x80\x02\x82\x07.").foreign[0].module == "copyreg"
    assert pickle_reader.read(b"\x80\x04\x8c\x02os\x8c\x06system\x93.").foreign == [Global("os", "system")]


def test_a_name_that_is_computed_is_foreign() -> None:
    assert pickle_reader.read(b"\x80\x04]\x8c\x06system\x93.").foreign == [Global("?", "?")]


def test_a_tensor_has_its_shape_dtype_and_place() -> None:
    found = pickle_reader.read(b"\x80\x02" + tensor(b"7", b"HalfStorage") + b".")
    assert found.is_plain
    assert isinstance(found.root, Tensor)
    assert (found.root.shape, found.root.dtype, found.root.strides) == ((2, 3), "float16", (3, 1))
    assert found.root.storage is not None
    assert found.root.storage.key == "7"


def test_a_parameter_is_the_tensor_that_it_wraps() -> None:
    data = (
        b"\x80\x02ctorch._utils\n_rebuild_parameter\n(" + tensor() + b"\x88ccollections\nOrderedDict\n)RtR."
    )
    found = pickle_reader.read(data)
    assert isinstance(found.root, Tensor)
    assert len(found.tensors) == 1


@pytest.mark.parametrize(
    "name", ["os.system", "builtins.eval", "builtins.getattr", "torch.load", "torch.hub.load", "torch.nn.Module", "numpy.load",
             "numpy.dtypes.ObjectDType", "torch.Storage.x", "torch.jit._pickle.build_intlist", "collections.OrderedDict.fromkeys"],
)  # fmt: skip
def test_what_weights_only_would_not_import_is_foreign(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert not is_allowed(Global(module, attribute))


@pytest.mark.framework("torch")
def test_the_list_is_that_of_torch() -> None:
    from torch._weights_only_unpickler import _get_allowed_globals

    missing = [name for name in _get_allowed_globals() if not is_allowed(Global(*name.rsplit(".", 1)))]
    assert not missing


def test_a_deep_tuple_as_a_key_is_not_hashed() -> None:
    found = pickle_reader.read(b"\x80\x02}K\x01" + b"\x85" * 200_000 + b"K\x02s.")
    assert list(found.root.values()) == [2]


def test_what_names_a_storage_is_never_written_out() -> None:
    """A tuple of two tuples of two, 34 deep, has 2**34 numbers as text."""
    laugh = b"K\1K\2\x86" + b"2\x86" * 34
    place = b"(X\x07\0\0\0storagectorch\nFloatStorage\n" + laugh + b"X\x03\0\0\0cpuK\4tQ"
    found = pickle_reader.read(b"\x80\2}X\1\0\0\0w" + place + b"s.")
    assert isinstance(found.root["w"], Made)
    assert not found.storages
    assert pickle_reader.storage_key((1, 2)) is None


@pytest.mark.parametrize("key", [3, "3", b"3"], ids=["number", "text", "bytes"])
def test_a_storage_is_named_by_text_or_a_number(key: object) -> None:
    assert pickle_reader.storage_key(key) == "3"


def test_a_number_too_long_to_be_written_out_is_no_key() -> None:
    found = pickle_reader.read(pickle.dumps({10**5000: 1, 2**40: 2}, 2))
    assert [key for key in found.root if isinstance(key, int)] == [2**40]
    assert list(found.root.values()) == [1, 2]


@pytest.mark.parametrize("strides", [b"(K\1t", b")", b"(K\3K\1K\1t"], ids=["one", "none", "three"])
def test_a_tensor_has_a_stride_for_every_size(strides: bytes) -> None:
    whole = b"\x80\2" + tensor() + b"."
    with pytest.raises(PickleError, match="2 sizes"):
        pickle_reader.read(whole.replace(b"(K\3K\1t", strides))


def test_a_value_that_holds_itself_is_read() -> None:
    value: dict[str, Any] = {}
    value["self"] = value
    found = pickle_reader.read(pickle.dumps(value, 2))
    assert found.root["self"] is found.root


@pytest.mark.parametrize(
    "data", [b"", b".", b"\x80", b"\x80\x02", b"\x80\x02K\x01", b"u.", b"\x80\x02h\x05.", b"(t", b"\x80\x02K\x01K\x02s.",
             b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f.", b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + storage(b"0") + b"J\xff\xff\xff\xff))tR."],
)  # fmt: skip
def test_what_is_no_pickle_is_an_error(data: bytes) -> None:
    with pytest.raises(PickleError):
        pickle_reader.read(data)


def test_a_pickle_that_breaks_off_tells_what_came_before() -> None:
    with pytest.raises(PickleError) as caught:
        pickle_reader.read(b"\x80\x02cos\nsystem\n(X\x02\0\0\0id")
    assert caught.value.partial.foreign == [Global("os", "system")]


def test_what_is_too_long_is_not_called_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_reader, "MAX_OPERATIONS", 10)
    found = pickle_reader.read(pickle.dumps(list(range(100)), 2))
    assert not found.foreign
    assert not found.is_plain


def test_damage_gives_an_answer_or_a_pickle_error() -> None:
    whole = b"\x80\x02}(X\x01\0\0\0a" + tensor() + b"X\x01\0\0\0b" + tensor(b"1") + b"u."
    for seed in range(2000):
        rng = random.Random(seed)
        hurt = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            hurt[rng.randrange(len(hurt))] = rng.randrange(256)
        try:
            pickle_reader.read(bytes(hurt[: rng.randint(1, len(hurt))] if seed % 4 == 3 else hurt))
        except PickleError:
            continue
