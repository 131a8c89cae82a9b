"""What a module remembers: refused where an answer hangs on it, and no matter where none does."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.framework("torch")
torch = pytest.importorskip("torch")

from mlconv.convert.job import Options  # noqa: E402
from mlconv.convert.torch_import import inputs as torch_inputs  # noqa: E402
from mlconv.convert.torch_import.reference import reference  # noqa: E402
from mlconv.convert.torch_import.source import Source  # noqa: E402
from mlconv.convert.torch_import.state import Held  # noqa: E402
from mlconv.errors import KeepsState  # noqa: E402
from mlconv.input_grammar import parse_input  # noqa: E402
from mlconv.tensors import axes_of  # noqa: E402


class First(torch.nn.Module):
    ref: Any = None

    def forward(self, x):
        if self.ref is None:
            self.ref = x.mean(0)
        return x - self.ref


class Counts(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, x):
        self.seen.append(1)
        return x if len(self.seen) < 6 else 2 * x


class InPlace(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.box, self.done = [torch.zeros(4)], False

    def forward(self, x):
        if not self.done:
            self.box[0].copy_(x.mean(0))
            self.done = True
        return x - self.box[0]


class Rotary(torch.nn.Module):
    """A table that grows with the longest input, a flag, and the last length."""

    table: Any = None
    last = 0

    def forward(self, x):
        self.last = x.shape[0]
        if self.table is None or len(self.table) < x.shape[0]:
            self.table = torch.arange(x.shape[0]).cos()[:, None]
        return x * self.table[: x.shape[0]]


def ran(net: torch.nn.Module) -> None:
    options = Options(input=(parse_input("x=n,4"),))
    inputs, pack = torch_inputs.signature(net.eval(), options.input, "net")
    reference(Source(net, inputs, pack, axes_of(inputs, options.input)), options)


@pytest.mark.parametrize(
    ("net", "name"), [(First(), "ref"), (Counts(), "seen"), (InPlace(), "box.0")], ids=["first", "counts", "in place"]
)  # fmt: skip
def test_an_attribute_that_changes_an_answer_is_refused_by_name(net: torch.nn.Module, name: str) -> None:
    with pytest.raises(KeepsState, match=f"`{name}`"):
        ran(net)


def test_a_table_that_is_made_once_is_no_state() -> None:
    ran(Rotary())


def test_all_that_a_module_holds_is_put_back() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    net.kept = {"a": [torch.zeros(2)], "n": 1}  # type: ignore[assignment]
    held = Held(net, whole=True)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    net(torch.randn(8, 2))
    net[0].weight.data.add_(1)
    net.kept["a"][0].add_(1)  # type: ignore[operator, index]
    net.kept["n"] = 2  # type: ignore[operator]
    assert "_modules.0._parameters.weight" in held.moved("parameter")
    assert held.rebound() == ["kept.n"]
    assert held.rewind() == []
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert net.kept["n"] == 1  # type: ignore[operator, index]
    assert net.kept["a"][0].sum() == 0  # type: ignore[operator, index]
