"""Kinds of torch archives, told apart without torch."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from mlconv.errors import Corrupt, MlconvError, NotConvertible, UnknownFormat
from mlconv.formats import ModelFile, archive, torch_archive, weights
from mlconv.tensors import TensorSpec

LEGACY_HEAD = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}q\x00."


def tensor(
    key: bytes = b"0", sizes: bytes = b"K\x02K\x03", strides: bytes = b"K\x03K\x01", elements: int = 6
) -> bytes:
    """A float32 tensor of shape (2, 3), as ``torch.save`` writes it."""
    storage = (
        b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0"
        + key
        + b"X\x03\0\0\0cpuK"
        + bytes([elements])
        + b"tQ"
    )
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + b"K\0("
        + sizes
        + b"t("
        + strides
        + b"t\x89ccollections\nOrderedDict\n)RtR"
    )


def mapping(**values: bytes) -> bytes:
    items = b"".join(
        b"X" + len(key).to_bytes(4, "little") + key.encode() + value for key, value in values.items()
    )
    return b"}(" + items + b"u"


def pickled(value: bytes) -> bytes:
    return b"\x80\x02" + value + b"."


def saved(path: Path, value: bytes, data: bytes = b"\0" * 24, **more: bytes) -> Path:
    """What ``torch.save`` writes, with one storage."""
    with zipfile.ZipFile(path, "w") as opened:
        for name, content in {"data.pkl": pickled(value), "version": b"3\n", "data/0": data, **more}.items():
            opened.writestr(f"{path.stem}/{name}", content)
    return path


def kind(path: Path) -> str | None:
    return torch_archive.kind_of_archive(archive.open_archive(path))


STATE = mapping(**{"fc.weight": tensor()})
EVIL = b"cos\nsystem\n(X\x02\0\0\0idtR"


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net", "weights", "anything"])
def test_a_wrapped_state_dict_is_found_under_its_key(key: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", mapping(epoch=b"K\x03", **{key: STATE}))
    assert kind(path) == "torch-weights"
    found = weights.read_checkpoint(path)
    assert (found.under, found.beside) == ((key,), ("epoch",))
    assert weights.weights_index(path) == {"fc.weight": TensorSpec("fc.weight", (2, 3), "float32")}


def test_a_state_dict_two_keys_deep_is_found(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", mapping(model=mapping(state_dict=STATE)))
    assert weights.read_checkpoint(path).under == ("model", "state_dict")


def test_several_state_dicts_are_told_apart_by_their_keys(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", mapping(encoder=STATE, decoder=STATE))
    assert list(weights.weights_index(path)) == ["encoder.fc.weight", "decoder.fc.weight"]


def test_an_empty_state_dict_is_one(tmp_path: Path) -> None:
    assert kind(saved(tmp_path / "a.pt", b"ccollections\nOrderedDict\n)R")) == "torch-weights"


def test_one_foreign_name_anywhere_makes_a_pickle(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", mapping(state_dict=STATE, config=EVIL))
    assert kind(path) == "torch-pickle"
    described = torch_archive.describe_pickle(ModelFile("a.pt", path, "torch-pickle"))
    assert described.parameters == 6
    assert "`os.system`" in described.notes[0]


def test_tied_weights_count_once(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", mapping(a=tensor(), b=tensor()))
    assert weights.describe(ModelFile("a.pt", path, "torch-weights")).parameters == 6


def test_a_tensor_beyond_its_storage_is_corrupt(tmp_path: Path) -> None:
    with pytest.raises(Corrupt) as caught:
        kind(saved(tmp_path / "a.pt", STATE, data=b"\0" * 20))
    assert "data/0" in str(caught.value.why)
    with pytest.raises(Corrupt):
        kind(saved(tmp_path / "b.pt", mapping(a=tensor(b"1"))))


def test_values_that_are_no_weights_are_told(tmp_path: Path) -> None:
    with pytest.raises(UnknownFormat) as caught:
        kind(saved(tmp_path / "a.pt", tensor()))
    assert "one tensor of shape (2, 3)" in str(caught.value.why)
    # whether --module was typed or not: the file itself is of no use
    assert caught.value.fix.startswith(
        'where the model was trained: torch.save(module.state_dict(), "weights.pth")'
    )
    with pytest.raises(UnknownFormat) as caught:
        kind(saved(tmp_path / "b.pt", mapping(lr=b"K\x01")))
    assert "`lr`" in str(caught.value.why)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (("code/__torch__/net.py", "constants.pkl", "data.pkl"), "torchscript"),
        (("bytecode.pkl", "data.pkl"), "torchscript"),
        (("model.json", "tensors/0"), "torchscript"),
        (("model.json", "code/net.py", "attributes.pkl"), "torchscript"),
        (("archive_format", "models/model.json", "data/weights/weight_0"), "torch-export"),
        (("serialized_exported_program.json", "serialized_state_dict.pt", "version"), "torch-export"),
        (("models/model.json", "data/aotinductor/model/a.so"), "torch-export"),
        (("archive_format", "data/aotinductor/model/a.so"), None),
        (("config.json", "weights"), None),
    ],
)
def test_members_tell_the_kind(members: tuple[str, ...], expected: str | None, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as opened:
        for name in members:
            opened.writestr(f"net/{name}", b"")
    assert kind(tmp_path / "a.pt") == expected


def test_a_file_of_torch_before_1_6_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(LEGACY_HEAD + pickled(STATE) + pickled(b"](X\x01\0\0\x000e") + b"\0" * 24)
    assert torch_archive.is_legacy(path.read_bytes()[:64])
    assert torch_archive.kind_of_pickle(path) == "torch-weights"
    path.write_bytes(LEGACY_HEAD + pickled(mapping(model=EVIL)))
    assert torch_archive.kind_of_pickle(path) == "torch-pickle"


def test_what_is_foreign_in_the_preamble_counts_too(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(LEGACY_HEAD.replace(b"}q\x00.", b"}q\x000" + EVIL + b".") + pickled(STATE))
    assert torch_archive.kind_of_pickle(path) == "torch-pickle"


def test_a_tar_of_torch_0_1_is_a_pickle(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with tarfile.open(path, "w") as opened:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            opened.addfile(tarfile.TarInfo(name), io.BytesIO())
    assert torch_archive.is_tar(path, path.read_bytes()[:512])
    with tarfile.open(tmp_path / "b.tar", "w") as opened:
        opened.addfile(tarfile.TarInfo("net.onnx"), io.BytesIO())
    assert not torch_archive.is_tar(tmp_path / "b.tar", (tmp_path / "b.tar").read_bytes()[:512])


@pytest.mark.parametrize(
    ("module", "library"), [("sklearn.ensemble._forest", "scikit-learn"), ("xgboost.sklearn", "XGBoost")]
)
def test_estimators_are_sent_to_their_own_converters(module: str, library: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    joblib_tail = b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81" + b"\xfe\xfe raw bytes of an array"
    for tail in (b".", joblib_tail):
        path.write_bytes(b"\x80\x02c" + module.encode() + b"\nModel\n)\x81" + tail)
        with pytest.raises(NotConvertible, match=library):
            torch_archive.kind_of_pickle(path)


def test_damage_gives_an_answer_or_a_named_error(mutations: Any, tmp_path: Path) -> None:
    whole = saved(tmp_path / "a.pt", mapping(epoch=b"K\x03", state_dict=STATE)).read_bytes()
    legacy = LEGACY_HEAD + pickled(STATE)
    path = tmp_path / "hurt.pt"
    for data in (*mutations(whole), *mutations(legacy)):
        path.write_bytes(data)
        try:
            kind(path) if archive.is_zip(data[:4]) else torch_archive.kind_of_pickle(path)
        except MlconvError:
            continue
        except ValueError as error:  # an empty file cannot be mapped; `identify` refuses it before
            assert not data, error  # noqa: PT017


@pytest.mark.framework("torch")
def test_real_files_of_torch_agree_with_torch(tmp_path: Path) -> None:
    import torch

    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2)).half()
    for name, zipped in (("new.pt", True), ("old.pt", False)):
        torch.save({"model": net.state_dict()}, tmp_path / name, _use_new_zipfile_serialization=zipped)
        index = weights.weights_index(tmp_path / name)
        assert index == {
            key: TensorSpec(key, tuple(value.shape), str(value.dtype).removeprefix("torch."))
            for key, value in net.state_dict().items()
        }
        torch.save(net, tmp_path / name, _use_new_zipfile_serialization=zipped)
    assert kind(tmp_path / "new.pt") == "torch-pickle"
    assert torch_archive.kind_of_pickle(tmp_path / "old.pt") == "torch-pickle"
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(net.state_dict()))
    assert torch_archive.kind_of_pickle(tmp_path / "bare.pt") == "torch-pickle"
