"""Consent: what is refused, and by which option it is allowed. Keras and SavedModels stand with their readers."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mlconv.errors import PathEscape, UntrustedOperator, UntrustedPickle
from mlconv.formats import Format, ModelFile
from mlconv.formats.safety import assert_safe
from mlconv.model import identify


class Payload:
    """Unpickling this leaves a folder."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


def archived(path: Path, members: Mapping[str, bytes | str]) -> Path:
    with zipfile.ZipFile(path, "w") as opened:
        for name, content in members.items():
            opened.writestr(f"net/{name}", content)
    return path


def bare(path: Path, payload: bytes) -> Path:
    path.write_bytes(payload)
    return path


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", ["bare", "archive"])
def test_a_pickle_is_refused_with_what_it_imports(kind: str, protocol: int, tmp_path: Path) -> None:
    payload = pickle.dumps({"weight": Payload(tmp_path / "ran")}, protocol)
    path = tmp_path / "model.pt"
    bare(path, payload) if kind == "bare" else archived(path, {"data.pkl": payload, "version": "3\n"})
    model = identify(str(path))
    assert model.format == "torch-pickle"
    with pytest.raises(UntrustedPickle) as caught:
        assert_safe(model, trust_model=True)
    assert "mkdir" in str(caught.value.why)
    assert "--trust-pickle" in caught.value.fix
    assert_safe(model, trust_pickle=True)
    assert not (tmp_path / "ran").exists()


def test_plain_weights_are_safe(tmp_path: Path) -> None:
    assert_safe(identify(str(archived(tmp_path / "w.pt", {"data.pkl": pickle.dumps({}, 2)}))))


@pytest.mark.parametrize("trust", [False, True])
def test_a_member_that_leads_outside_is_refused_with_and_without_trust(trust: bool, tmp_path: Path) -> None:
    members = {"data.pkl": pickle.dumps({}, 2), "../../evil": b""}
    with pytest.raises(PathEscape, match="evil"):
        assert_safe(
            identify(str(archived(tmp_path / "w.pt", members))), trust_pickle=trust, trust_model=trust
        )


def test_shards_are_looked_into(tmp_path: Path) -> None:
    bare(tmp_path / "1.bin", pickle.dumps({"weight": Payload(tmp_path / "ran")}, 2))
    (tmp_path / "model.bin.index.json").write_text(json.dumps({"weight_map": {"weight": "1.bin"}}))
    with pytest.raises(UntrustedPickle, match=r"1\.bin"):
        assert_safe(identify(str(tmp_path / "model.bin.index.json")))


def test_torchscript_that_writes_files_is_refused(tmp_path: Path) -> None:
    code = "class Net(Module):\n  def forward(self: __torch__.Net,\n    x: Tensor) -> Tensor:\n    torch.save(x, 'ran')\n    return x\n"
    model = identify(str(archived(tmp_path / "s.pt", {"code/net.py": code, "constants.pkl": b"\x80\x02)."})))
    with pytest.raises(UntrustedOperator, match=r"`aten\.save` \(1\)") as caught:
        assert_safe(model)
    assert "--" not in caught.value.fix  # the command takes no consent for TorchScript
    assert_safe(model, trust_model=True)


def program(path: Path, **members: bytes) -> ModelFile:
    graph: dict[str, Any] = {"nodes": [], "tensor_values": {}}
    body = {"graph_module": {"graph": graph, "signature": {"input_specs": [], "output_specs": []}}}
    return identify(str(archived(path, {"models/model.json": json.dumps(body), **members})))


def inner(payload: bytes) -> bytes:
    """A torch archive as the bytes of a member."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        opened.writestr("archive/data.pkl", payload)
    return buffer.getvalue()


def test_a_pickle_among_a_program_s_constants_is_refused(tmp_path: Path) -> None:
    evil = pickle.dumps(Payload(tmp_path / "ran"), 2)
    for number, member in enumerate((evil, inner(evil), b"\x80\x02broken")):
        model = program(tmp_path / f"{number}.pt2", **{"data/weights/weights.pt": member})
        with pytest.raises(UntrustedPickle, match=r"data/weights/weights\.pt") as caught:
            assert_safe(model)
        assert "torch.export.save" in caught.value.fix
        assert "--" not in caught.value.fix  # the command takes no consent for a program
        assert_safe(model, trust_pickle=True)
    assert_safe(program(tmp_path / "plain.pt2", **{"data/weights/weights.pt": inner(pickle.dumps({}, 2))}))


def test_sample_inputs_are_never_loaded_and_so_not_refused(tmp_path: Path) -> None:
    evil = pickle.dumps(Payload(tmp_path / "ran"), 2)
    assert_safe(program(tmp_path / "a.pt2", **{"data/sample_inputs/model.pt": evil}))


def package(folder: Path, path: str) -> ModelFile:
    (folder / "Data").mkdir(parents=True)
    (folder / "Data" / "model.mlmodel").write_bytes(b"x")
    manifest = {"itemInfoEntries": {"1": {"path": path}}, "rootModelIdentifier": "1"}
    (folder / "Manifest.json").write_text(json.dumps(manifest))
    return identify(str(folder))


def test_a_package_reaches_nothing_outside(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    with pytest.raises(PathEscape):
        assert_safe(package(tmp_path / "a.mlpackage", "../../secret"))
    linked = package(tmp_path / "b.mlpackage", "model.mlmodel")
    assert_safe(linked)
    (tmp_path / "b.mlpackage" / "Data" / "weight.bin").symlink_to(tmp_path / "secret")
    with pytest.raises(PathEscape):
        assert_safe(linked)


@pytest.mark.parametrize("kind", ["torch-module", "tflite", "tflite-edgetpu", "ort", "coreml"])
def test_formats_that_hold_data_alone_need_no_consent(kind: Format, tmp_path: Path) -> None:
    assert_safe(ModelFile("x", tmp_path / "never read", kind))
