"""TorchScript, read from its text."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from mlconv.formats import ModelFile, archive, torchscript
from mlconv.formats.torchscript import describe
from mlconv.tensors import TensorSpec

CODE = """class Other(Module):
  def forward(self: __torch__.net.Other,
    wrong: Tensor) -> Tensor:
    return torch.neg(wrong)
class Net(Module):
  __parameters__ = ["weight", ]
  def forward(self: __torch__.net.Net,
    x: Tensor,
    sizes: Tuple[int, int],
    mask: Optional[Tensor]=None) -> Tuple[Tensor, Tensor]:
    _0 = torch.relu(torch.linear(x, self.weight, None))
    print("torch.relu(x) is no operator here")
    _1 = ops.torchvision.nms(_0, x, 0.5)
    return (torch.relu(_0), _1)
"""
DATA = b"\x80\x02c__torch__.net\nNet\n)\x81}X\x06\0\0\0weightctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x06tQK\0(K\x02K\x03t(K\x03K\x01t\x89ccollections\nOrderedDict\n)RtRsb."  # fmt: skip


@pytest.fixture
def script(tmp_path: Path) -> ModelFile:
    path = tmp_path / "net.pt"
    members = {
        "code/__torch__/net.py": CODE.encode(),
        "data.pkl": DATA,
        "constants.pkl": b"\x80\x02).",
        "extra/labels": b"a b",
    }
    with zipfile.ZipFile(path, "w") as opened:
        for name, content in members.items():
            opened.writestr(f"net/{name}", content)
    return ModelFile("net.pt", path, "torchscript")


def test_inputs_are_the_tensors_of_forward(script: ModelFile) -> None:
    described = describe(script)
    assert described.inputs == (TensorSpec("x", None, "float32"), TensorSpec("mask", None, "float32"))
    assert "forward also takes `sizes: Tuple[int, int]`" in described.notes


def test_operators_are_counted_in_code_and_not_in_text(script: ModelFile) -> None:
    expected = {"aten.linear": 1, "aten.neg": 1, "aten.relu": 2, "torchvision.nms": 1}
    assert describe(script).operators == expected


def test_parameters_and_metadata_are_told(script: ModelFile) -> None:
    described = describe(script)
    assert (described.parameters, described.metadata) == (6, {"labels": "a b"})


def test_operators_of_the_mobile_interpreter_are_counted_by_its_instructions() -> None:
    method = (
        "__torch__.Net.forward",
        (
            (
                "instructions",
                (("STOREN", 1, 2), ("OP", 0, 0), ("OP", 0, 0), ("OPN", 1, 3), ("OP", 9, 0), ("RET", 0, 0)),
            ),
            ("operators", (("aten::relu", ""), ("aten::add", "Tensor"))),
        ),
    )
    assert torchscript._bytecode_operators((8, method)) == {"aten.relu": 2, "aten.add": 1}


@pytest.mark.parametrize("root", [None, 3, (1, 2), (1, ()), (1, ("f",)), (1, ("f", (("instructions", 3),)))])
def test_bytecode_of_another_shape_has_no_operators(root: Any) -> None:
    assert not torchscript._bytecode_operators(root)


@pytest.mark.framework("torch")
@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_trace_of_torch_is_read(tmp_path: Path) -> None:
    import torch

    net = torch.nn.Sequential(torch.nn.Embedding(10, 4), torch.nn.Linear(4, 2))
    torch.jit.trace(net, torch.zeros(1, 3, dtype=torch.int64)).save(  # type: ignore[no-untyped-call]
        str(tmp_path / "net.pt")
    )
    described = describe(ModelFile("net.pt", tmp_path / "net.pt", "torchscript"))
    assert [(spec.name, spec.shape) for spec in described.inputs] == [("input", None)]
    assert (described.parameters, described.operators) == (50, {"aten.embedding": 1, "aten.linear": 1})


def test_public_models_are_read(models: Path) -> None:
    path = models / "dotnet_TorchSharp" / "test__TorchSharpTest__l1000_100_10.script.dat"
    described = describe(ModelFile("net", path, "torchscript"))
    assert described.parameters == 1000 * 100 + 100 + 100 * 10 + 10
    assert described.operators == {"aten.linear": 2, "aten.relu": 1}


def test_a_program_s_json_is_no_torchscript(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as opened:
        opened.writestr("net/model.json", json.dumps({}))
    from mlconv.formats.torch_archive import is_torchscript

    assert not is_torchscript(archive.open_archive(tmp_path / "a.pt"))
