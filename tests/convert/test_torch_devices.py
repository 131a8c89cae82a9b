"""Sources that name a device: moved to the CPU, or refused by an id of their own."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from mlconv.convert.job import Options  # noqa: E402
from mlconv.convert.torch_import import devices  # noqa: E402
from mlconv.convert.torch_import.reference import reference  # noqa: E402
from mlconv.convert.torch_import.source import open_source  # noqa: E402
from mlconv.errors import DeviceBakedIn  # noqa: E402
from mlconv.model import describe, identify  # noqa: E402
from mlconv.tensors import InputOption  # noqa: E402

pytestmark = [pytest.mark.framework("torch"), pytest.mark.filterwarnings("ignore")]
INPUT = InputOption("x", (2, 4))


class Makes(torch.nn.Module):
    """It makes tensors as it runs, so that a trace keeps the device."""

    steps: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(4, 4)
        self.register_buffer("steps", torch.arange(4.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        grid = torch.arange(4, device=x.device) + torch.zeros(4, device=x.device).to(x.device)
        return self.fc(x) + grid + self.steps + torch.tensor([1.0, 2, 3, 4], device=x.device)


class Asks(torch.nn.Module):
    """Its device is an attribute, which no text of the archive's code tells."""

    def __init__(self) -> None:
        super().__init__()
        self.where = "cuda:0"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.zeros(4, device=torch.device(self.where))


class Moves(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.cuda() + torch.ones(4, device="cuda")


def rewritten(source: Path, target: Path, change: Callable[[str, bytes], bytes]) -> None:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            new.writestr(entry.filename, change(entry.filename, old.read(entry)))


def saved_on(device: str) -> Callable[[str, bytes], bytes]:
    """What the same `torch.jit.save` or `torch.export.save` would have written there."""
    kind, _, index = device.partition(":")

    def change(name: str, data: bytes) -> bytes:
        if name.endswith(".py"):
            return data.replace(b'torch.device("cpu")', f'torch.device("{device}")'.encode())
        if name.endswith(".pkl"):
            place = b"X" + len(device).to_bytes(4, "little") + device.encode()
            return data.replace(b"X\x03\0\0\0cpu", place)
        if name.endswith(".json"):
            there = f'{{"type": "{kind}", "index": {index or "null"}}}'.encode()
            return re.sub(rb'\{"type": "cpu", "index": null\}', there, data)
        return data

    return change


@pytest.fixture
def made() -> Makes:
    torch.manual_seed(3)
    return Makes().eval()


@pytest.mark.parametrize("device", ["cuda:0", "cuda:3", "mps:0", "xpu:1"])
def test_torchscript_of_another_device_runs_on_the_cpu(made: Makes, tmp_path: Path, device: str) -> None:
    torch.jit.trace(made, torch.ones(2, 4)).save(tmp_path / "cpu.pt")
    rewritten(tmp_path / "cpu.pt", tmp_path / "net.pt", saved_on(device))
    model = identify(str(tmp_path / "net.pt"))
    assert (
        f"its code makes tensors on `{device}`, which conversion changes to the CPU" in describe(model).notes
    )
    before = (tmp_path / "net.pt").read_bytes()
    source = open_source(model, Options(input=(INPUT,)), tmp_path)
    assert source.warnings == [f"the code makes tensors on `{device}`; they are made on the CPU here"]
    x = torch.randn(2, 4)
    assert torch.equal(source.module(x), made(x))
    assert (tmp_path / "net.pt").read_bytes() == before


def test_scripted_code_that_moves_its_inputs_stays_on_the_cpu(tmp_path: Path) -> None:
    torch.jit.script(Moves()).save(tmp_path / "net.pt")
    source = open_source(identify(str(tmp_path / "net.pt")), Options(input=(INPUT,)), tmp_path)
    assert torch.equal(source.module(torch.ones(2, 4)), torch.full((2, 4), 2.0))


def test_torchscript_of_the_cpu_is_not_touched(made: Makes, tmp_path: Path) -> None:
    torch.jit.trace(made, torch.ones(2, 4)).save(tmp_path / "net.pt")
    assert devices.torchscript_on_cpu(tmp_path / "net.pt", tmp_path) == tmp_path / "net.pt"


@pytest.mark.parametrize("device", ["cuda:0", "mps"])
def test_a_program_of_another_device_runs_on_the_cpu(made: Makes, tmp_path: Path, device: str) -> None:
    torch.export.save(torch.export.export(made, (torch.ones(2, 4),)), tmp_path / "cpu.pt2")
    rewritten(tmp_path / "cpu.pt2", tmp_path / "net.pt2", saved_on(device))
    kind = device.partition(":")[0]
    model = identify(str(tmp_path / "net.pt2"))
    assert f"it was exported on `{kind}`, which conversion changes to the CPU" in describe(model).notes
    source = open_source(model, Options(), tmp_path)
    assert source.warnings == [f"the program was exported on `{kind}`; it runs on the CPU here"]
    x = torch.randn(2, 4)
    assert torch.equal(source.module(x), made(x))


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_what_cannot_be_moved_has_an_id_of_its_own_and_a_cure_that_works(tmp_path: Path) -> None:
    asks = Asks()
    torch.jit.script(asks).save(tmp_path / "net.pt")
    options = Options(input=(INPUT,))
    source = open_source(identify(str(tmp_path / "net.pt")), options, tmp_path)
    with pytest.raises(DeviceBakedIn) as caught:
        reference(source, options)
    assert (caught.value.id, caught.value.exit) == ("MLC219", 4)
    assert caught.value.why == (
        "NotImplementedError: RuntimeError: Could not run 'aten::empty.memory_format' with arguments from the 'CUDA' backend"
    )
    assert "make it again on the CPU" in caught.value.fix
    asks.where = "cpu"
    torch.jit.script(asks).save(tmp_path / "net.pt")
    reference(open_source(identify(str(tmp_path / "net.pt")), options, tmp_path), options)


def test_an_operator_of_one_device_alone_is_known_as_such() -> None:
    with pytest.raises(NotImplementedError) as caught:
        torch.ops.aten._masked_scale(torch.ones(2), torch.ones(2), 2.0)
    assert devices.is_of_device(caught.value)
    assert not devices.is_of_device(ValueError("mat1 and mat2 shapes cannot be multiplied (2x4 and 5x3)"))
