"""Ranges of integers from the tables that a PyTorch source indexes, held against what torch takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.framework("torch")
torch = pytest.importorskip("torch")

from mlconv.convert.torch_import.tables import with_table_ranges  # noqa: E402
from mlconv.errors import BadInputOption  # noqa: E402
from mlconv.tensors import Axis, TensorSpec  # noqa: E402

IDS = TensorSpec("ids", (2, 5), "int64")
F = torch.nn.functional


class Tables(torch.nn.Module):
    """Tables of 100, 10 and 2 rows and what a test does with them."""

    def __init__(self, compute: Callable[..., Any]) -> None:
        super().__init__()
        self.words, self.places, self.kinds = (torch.nn.Embedding(rows, 4) for rows in (100, 10, 2))
        self.compute = compute

    def forward(self, *tensors: Any) -> Any:
        return self.compute(self, *tensors)


def shifted(net: Tables, ids: Any) -> Any:
    """As decoders move their labels to the right."""
    moved = ids.new_zeros(ids.shape)
    moved[:, 1:] = ids[:, :-1].clone()
    moved[:, 0] = 1
    return net.places(moved)


def in_place(net: Tables, ids: Any) -> Any:
    moved = ids.clone()
    moved += 3
    moved.masked_fill_(moved == 5, 0)
    return net.places(moved)


CASES: dict[str, tuple[Callable[..., Any], tuple[int, int]]] = {
    "embedding": (lambda net, ids: net.words(ids), (0, 99)),
    "two tables": (lambda net, ids: net.words(ids) + net.places(ids), (0, 9)),
    "offset": (lambda net, ids: net.places(ids + 2), (0, 7)),
    "counted from one": (lambda net, ids: net.places(ids - 1), (1, 10)),
    "scaled": (lambda net, ids: net.places(torch.add(1, ids, alpha=4)), (0, 2)),
    "int32": (lambda net, ids: net.places(ids.int()), (0, 9)),
    "indexed": (lambda net, ids: net.places.weight[ids], (0, 9)),
    "index_select": (lambda net, ids: net.places.weight.index_select(0, ids.flatten()), (0, 9)),
    "gather": (lambda net, ids: net.places.weight.gather(0, ids[:, :4]), (0, 9)),
    "one_hot": (lambda _, ids: F.one_hot(ids, 7).float(), (0, 6)),
    "clamped below": (lambda net, ids: net.places(ids.clamp(min=2)), (0, 9)),
    "padding": (lambda net, ids: net.places(torch.where(ids == 3, 0, ids)), (0, 9)),
    "shifted": (shifted, (0, 9)),
    "in place": (in_place, (0, 6)),
    "stacked": (lambda net, ids: net.places(torch.cat([ids, ids + 1], 1)), (0, 8)),
}


def ranged(net: Any, *specs: TensorSpec) -> tuple[list[tuple[float, float] | None], list[str]]:
    found, told = with_table_ranges(specs, lambda tensors: net(*tensors), [{}], 0)
    return [spec.values for spec in found], told


@pytest.mark.parametrize(("compute", "expected"), CASES.values(), ids=CASES.keys())
def test_the_greatest_value_runs_and_the_next_does_not(
    compute: Callable[..., Any], expected: tuple[int, int]
) -> None:
    net = Tables(compute)
    assert ranged(net, IDS) == ([expected], [])
    net(torch.full((2, 5), expected[1]))
    with pytest.raises((IndexError, RuntimeError)):
        net(torch.full((2, 5), expected[1] + 1))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_the_ranges_of_a_program_and_of_torchscript_are_those_of_the_module() -> None:
    net = torch.nn.Sequential(torch.nn.Embedding(33, 4), torch.nn.Linear(4, 2)).eval()
    program = torch.export.export(net, (torch.zeros(2, 5, dtype=torch.long),)).module()
    assert ranged(program, IDS) == ranged(torch.jit.script(net), IDS) == ([(0, 32)], [])


def test_a_mask_has_no_range_and_kinds_have_two() -> None:
    net = Tables(lambda net, ids, kinds, mask: (net.words(ids) + net.kinds(kinds)) * mask[..., None])
    kinds, mask = IDS.renamed("kinds"), IDS.renamed("mask")
    assert ranged(net, IDS, kinds, mask)[0] == [(0, 99), (0, 1), None]


def test_a_table_of_one_row_takes_zero_alone() -> None:
    assert ranged(torch.nn.Embedding(1, 3), IDS) == ([(0, 0)], [])


def test_an_index_that_cannot_be_followed_is_zero_and_told() -> None:
    offsets = TensorSpec("offsets", (3,), "int64")
    bags = torch.nn.EmbeddingBag(10, 3)
    values, (note,) = ranged(bags, TensorSpec("ids", (9,), "int64"), offsets)
    assert values == [(0, 9), (0, 0)]
    assert note.startswith("`offsets` took 0 alone, since the source raises on 1")


def test_the_hint_keeps_the_range_of_sizes_that_the_user_gave() -> None:
    given = TensorSpec("ids", ("batch", "length"), "int64", values=(0.0, 50.0))
    table = torch.nn.Embedding(10, 3)
    axes = {"batch": Axis("batch"), "length": Axis("length", 1, 6)}
    with pytest.raises(BadInputOption) as caught:
        with_table_ranges((given,), lambda tensors: table(*tensors), [{"batch": 2, "length": 3}], 0, axes)
    assert caught.value.fix == "--input 'ids=batch,length=1..6:int64[0..9]'"


def test_a_range_of_the_user_s_that_leaves_the_table_is_refused_with_the_one_that_fits() -> None:
    given = TensorSpec("ids", (2, 5), "int64", values=(0.0, 99.0))
    with pytest.raises(
        BadInputOption, match=r"from 0\.\.99, and the table that it indexes takes 0\.\.9"
    ) as caught:
        ranged(Tables(lambda net, ids: net.places(ids)), given)
    assert caught.value.fix == "--input 'ids=2,5:int64[0..9]'"


def test_a_range_from_the_end_is_taken_where_the_source_takes_it() -> None:
    given = TensorSpec("ids", (2, 5), "int64", values=(-10.0, 9.0))
    assert ranged(Tables(lambda net, ids: net.places.weight[ids]), given) == ([(-10, 9)], [])


def test_a_source_that_does_not_run_keeps_its_inputs_as_they_are() -> None:
    def broken(net: Tables, ids: Any) -> Any:
        raise RuntimeError("never")

    assert ranged(Tables(broken), IDS) == ([None], [])
