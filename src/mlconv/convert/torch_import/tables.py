"""From which range the integer inputs of a PyTorch source may be drawn, before any graph of it exists.

The source runs once with zeros for its integers, which every table has a row for. Each operator that it calls is seen on
its way through torch's dispatcher, whether a module, a program or TorchScript calls it: what becomes of the integers is
written down for ``formats.index_ranges``, and so are the tables that they index.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeAlias

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mlconv.checks.ranges import is_integer
from mlconv.checks.samples import draw
from mlconv.errors import BadInputOption
from mlconv.formats.index_ranges import Index, Key, Kind, Step, all_inside, ranges
from mlconv.runners.torch_eager import to_torch
from mlconv.tensors import Axis, TensorSpec, show_range, show_shape, typed

_MOST_ELEMENTS = 1 << 20
"""Larger tensors hold no indices of the small examples that are run here."""

Run: TypeAlias = Callable[[Sequence[torch.Tensor]], object]

_FIRST = frozenset({
    "view", "_unsafe_view", "reshape", "_reshape_alias", "unsqueeze", "squeeze", "expand", "clone", "contiguous", "slice",
    "select", "t", "transpose", "permute", "alias", "detach", "repeat", "index_select", "gather", "roll", "flip", "split",
    "split_with_sizes", "unbind", "chunk", "as_strided", "lift_fresh", "index", "masked_select", "amax", "amin", "sort",
    "diagonal", "unfold", "lift", "positive", "floor", "ceil", "round", "trunc", "repeat_interleave", "view_copy", "topk",
})  # fmt: skip
"""Operators whose results hold values of their first argument; of several results the first alone, but for lists."""
_SEVERAL = frozenset({"split", "split_with_sizes", "unbind", "chunk"})
_KINDS: dict[str, Kind] = {
    "mul": "mul", "floor_divide": "div", "remainder": "mod", "fmod": "fmod", "minimum": "min", "maximum": "max",
    "clamp_max": "min", "clamp_min": "max", "neg": "neg", "abs": "abs", "sign": "sign", "eq": "equal", "ne": "not_equal",
    "lt": "less", "le": "less_equal", "logical_not": "not", "logical_and": "and", "logical_or": "or", "logical_xor": "xor",
}  # fmt: skip
_SWAPPED: dict[str, Kind] = {"gt": "less", "ge": "less_equal"}
_BITWISE: dict[str, Kind] = {
    "bitwise_not": "not",
    "bitwise_and": "and",
    "bitwise_or": "or",
    "bitwise_xor": "xor",
}


_TRIES = 4  # draws on which an input of unknown range must run


def with_table_ranges(
    specs: tuple[TensorSpec, ...],
    run: Run,
    candidates: Sequence[Mapping[str, int]],
    seed: int,
    axes: Mapping[str, Axis] = MappingProxyType({}),
) -> tuple[tuple[TensorSpec, ...], list[str]]:
    """The signature with the range of each integer input that indexes a table.

    Args:
        run: Runs the source on tensors in the signature's order.
        candidates: Sizes of the dynamic axes; the first at which the source runs are used.
        axes: The ranges of these, which a hint tells again.

    Returns:
        The specs, and a sentence for each input that takes zeros alone. Where the source runs at none of the sizes, the
        specs as they were: what it raises is told elsewhere.

    Raises:
        BadInputOption: `--input` draws an input from more than the rows of its table.
    """
    integers = [place for place, spec in enumerate(specs) if is_integer(spec)]
    if not integers:
        return specs, []
    for sizes, number in itertools.product(candidates, (0.0, 1.0)):  # 1: a table that is counted from there
        same = tuple(replace(spec, values=(number, number)) if is_integer(spec) else spec for spec in specs)
        tensors = _tensors(same, sizes, seed)
        followed = _Followed({place: tensors[place] for place in integers})
        try:
            with torch.inference_mode(), followed:
                run(tensors)
        except Exception:  # the user's forward may raise anything; it runs again, where that is told
            continue
        return _ranged(specs, followed, run, sizes, seed, axes)
    return specs, []


def _ranged(
    specs: tuple[TensorSpec, ...],
    followed: _Followed,
    run: Run,
    sizes: Mapping[str, int],
    seed: int,
    axes: Mapping[str, Axis],
) -> tuple[tuple[TensorSpec, ...], list[str]]:
    dtypes: dict[Key, str] = {number: specs[number].dtype for number in followed.inputs}
    found = ranges(dtypes, followed.steps, followed.indices)
    _assert_within(specs, followed, found, axes)
    drawn = tuple(
        replace(spec, values=(float(found[number][0]), float(found[number][1])))
        if spec.values is None and number in found
        else spec
        for number, spec in enumerate(specs)
    )
    free = [number for number in followed.inputs if specs[number].values is None]
    # what indexes something unseen runs on some draws by luck
    if all(_runs(drawn, run, sizes, seed, index) for index in range(_TRIES if set(free) - set(found) else 1)):
        return drawn, []
    # an index that intervals do not see: zeros, at which the source has run
    held = [number for number in free if number not in found] or free
    for some in (held, free):
        kept = tuple(
            replace(spec, values=(0.0, 0.0)) if number in some else spec for number, spec in enumerate(drawn)
        )
        if _runs(kept, run, sizes, seed):
            told = [specs[number] for number in some]
            return kept, [
                f"`{spec.name}` took 0 alone, since the source raises on 1: {typed(spec.name, f'{show_shape(spec.shape, axes)}:{spec.dtype}[0..N]')}"
                for spec in told
            ]
    return drawn, []


def _assert_within(
    specs: Sequence[TensorSpec],
    followed: _Followed,
    found: Mapping[Key, tuple[int, int]],
    axes: Mapping[str, Axis],
) -> None:
    """Hold the ranges that the user gave against the tables; others do not matter to them."""
    for number, spec in enumerate(specs):
        if number not in found or spec.values is None:
            continue
        values = {key: (rows[0], rows[0]) for key, rows in found.items()}
        values[number] = (int(spec.values[0]), int(spec.values[1]))
        if not all_inside(values, followed.steps, followed.indices):
            rows = f"{found[number][0]}..{found[number][1]}"
            raise BadInputOption(
                f"`--input` draws `{spec.name}` from {show_range(spec.values)}, and the table that it indexes takes {rows}",
                fix=typed(spec.name, f"{show_shape(spec.shape, axes)}:{spec.dtype}[{rows}]"),
            )


def _runs(specs: Sequence[TensorSpec], run: Run, sizes: Mapping[str, int], seed: int, index: int = 0) -> bool:
    try:
        with torch.inference_mode():
            run(_tensors(specs, sizes, seed, index))
    except Exception:  # the user's forward may raise anything
        return False
    return True


def _tensors(
    specs: Sequence[TensorSpec], sizes: Mapping[str, int], seed: int, index: int = 0
) -> tuple[torch.Tensor, ...]:
    feeds = draw(specs, sizes, seed, index, kind="unit").feeds
    return tuple(to_torch(feeds[spec.name]) for spec in specs)


class _Followed(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down what operators do with the integers of a run.

    Attributes:
        inputs: Numbers of the inputs that are followed.
    """

    def __init__(self, inputs: Mapping[int, torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.inputs = tuple(inputs)
        self.steps: list[Step] = []
        self.indices: list[Index] = []
        self._numbers = itertools.count()
        self._keys: dict[int, Key] = {}
        self._storages: dict[int, Key] = {}
        self._kept: list[torch.Tensor] = []  # so that no other tensor gets the identity of one that is gone
        for number, tensor in inputs.items():
            self._name(tensor, number)

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:  # fmt: skip
        kwargs = dict(kwargs or {})
        name = func._schema.name.rpartition("::")[2]  # noqa: SLF001  OpOverload has no public one
        given = [*args, *kwargs.values()]
        followed = any(self._is_followed(value) for value in given)
        before = self._operands(name, args) if followed else []
        found = func(*args, **kwargs)
        if followed:
            self._index(name, args)
            self._follow(name, args, kwargs, before, found)
        return found

    # -------------------------------------------------------------- which value a tensor is

    def _name(self, tensor: torch.Tensor, key: Key) -> None:
        self._kept.append(tensor)
        self._keys[id(tensor)] = key
        self._storages[tensor.untyped_storage().data_ptr()] = key

    def _key(self, tensor: torch.Tensor) -> Key | None:
        found = self._keys.get(id(tensor))
        return found if found is not None else self._storages.get(tensor.untyped_storage().data_ptr())

    def _is_followed(self, value: object) -> bool:
        if isinstance(value, (list, tuple)):
            return any(self._is_followed(item) for item in value)
        return _is_plain(value) and self._key(value) is not None  # type: ignore[arg-type]

    def _new(self) -> Key:
        return ("value", next(self._numbers))

    def _operand(self, value: object) -> Key:
        """The key of what an operator is given: a followed tensor, or a constant with the values that it has now."""
        if isinstance(value, torch.Tensor):
            key = self._key(value) if _is_plain(value) else None
            if key is not None:
                return key
            if not _is_plain(value) or not value.numel() or value.is_complex():
                return self._new()
            extent = float(value.min()), float(value.max())
        elif isinstance(value, (bool, int, float)):
            extent = float(value), float(value)
        else:
            return self._new()
        key = self._new()
        self.steps.append(Step("constant", key, value=extent))
        return key

    def _operands(self, name: str, args: Sequence[Any]) -> list[Key]:
        """Keys of the arguments, taken before an operator that writes to one of them."""
        values = args[0] if name in ("cat", "stack") else args
        return [self._operand(value) for value in values]

    # -------------------------------------------------------------- what operators do

    def _index(self, name: str, args: Sequence[Any]) -> None:
        if name in ("embedding", "embedding_bag", "_embedding_bag", "_embedding_bag_forward_only"):
            self._row(args[1], args[0].shape[0])
        elif name in ("index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_"):
            for axis, index in enumerate(args[1]):
                if isinstance(index, torch.Tensor) and index.dtype not in (torch.bool, torch.uint8):
                    self._row(index, args[0].shape[axis], wraps=True)
        elif name in _BY_AXIS and args[0].dim():
            self._row(args[2], args[0].shape[args[1]])
        elif name == "one_hot" and len(args) > 1 and args[1] > 0:
            self._row(args[0], args[1])
        elif name == "take":
            self._row(args[1], args[0].numel(), wraps=True)

    def _row(self, index: object, rows: int, *, wraps: bool = False) -> None:
        if _is_plain(index) and (key := self._key(index)) is not None:  # type: ignore[arg-type]
            self.indices.append(Index(key, rows, wraps))

    def _follow(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], keys: Sequence[Key], found: Any
    ) -> None:
        plain, writes = name.removesuffix("_"), name.endswith("_") and not name.startswith("__")
        if isinstance(found, (list, tuple)):
            results = [item for item in found if _is_plain(item)][: None if plain in _SEVERAL else 1]
        else:
            results = [found] if _is_plain(found) else []
        step = self._step(plain, args, kwargs, keys)
        for result in results:
            if result.is_complex() or result.numel() > _MOST_ELEMENTS:
                continue
            key = self._new()
            if step is not None:
                self.steps.append(replace(step, output=key))
            if writes and step is not None:
                # a view was written to: what shares its memory holds either
                joined, old = self._new(), self._storages.get(result.untyped_storage().data_ptr())
                self.steps.append(Step("hull", joined, (key, old if old is not None else keys[0])))
                self._forget(result)
                self._name(result, joined)
            elif step is not None or writes:
                if writes:
                    self._forget(result)
                shared = self._storages.get(result.untyped_storage().data_ptr())
                self._name(result, key)
                if shared is not None:  # a view: its base keeps what it has
                    self._storages[result.untyped_storage().data_ptr()] = shared

    def _forget(self, tensor: torch.Tensor) -> None:
        pointer = tensor.untyped_storage().data_ptr()
        self._storages.pop(pointer, None)
        for other in self._kept:
            if other.untyped_storage().data_ptr() == pointer:
                self._keys.pop(id(other), None)

    def _step(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], keys: Sequence[Key]
    ) -> Step | None:
        """What an operator does, with its output left open; None where intervals cannot tell."""
        if name in _FIRST:
            return Step("keep", None, (keys[0],))
        if name in ("_to_copy", "to", "type_as"):
            return Step("truth" if kwargs.get("dtype") is torch.bool else "keep", None, (keys[0],))
        if name in ("copy", "fill", "set") and len(keys) > 1:
            return Step("keep", None, (keys[1],))
        if name in ("cat", "stack"):
            return Step("hull", None, tuple(keys))
        if name in ("add", "sub", "rsub"):
            return self._sum(name, kwargs, keys)
        if name in _KINDS:
            return Step(_KINDS[name], None, tuple(keys[:2]))
        if name in _SWAPPED:
            return Step(_SWAPPED[name], None, tuple(keys[1::-1]))
        if name in _BITWISE and args[0].dtype == torch.bool:
            return Step(_BITWISE[name], None, tuple(keys[:2]))
        return self._rarer_step(name, args, kwargs, keys)

    def _rarer_step(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], keys: Sequence[Key]
    ) -> Step | None:
        if name == "div" and kwargs.get("rounding_mode") == "floor":
            return Step("div", None, tuple(keys[:2]))
        if name == "clamp":
            return self._clamped([*args, None, None], kwargs, keys)
        if name == "where" and len(keys) == 3:
            return Step("where", None, tuple(keys))
        if name == "masked_fill" and len(keys) == 3:
            return Step("where", None, (keys[1], keys[2], keys[0]))
        if name in ("index_put", "_index_put_impl", "scatter", "index_fill", "masked_scatter"):
            return Step("hull", None, (keys[0], keys[-1] if name != "index_put" else keys[2]))
        if name in ("tril", "triu", "constant_pad_nd"):
            return Step(
                "hull",
                None,
                (keys[0], self._operand(args[2] if name == "constant_pad_nd" and len(args) > 2 else 0)),
            )
        if name in ("cumsum", "sum", "sum_to_size"):
            return Step("sum", None, (keys[0],), count=args[0].numel())
        if name in ("max", "min") and len(keys) == 2 and isinstance(args[1], torch.Tensor):
            return Step("max" if name == "max" else "min", None, tuple(keys))
        if name in ("max", "min"):
            return Step("keep", None, (keys[0],))
        return None

    def _sum(self, name: str, kwargs: Mapping[str, Any], keys: Sequence[Key]) -> Step:
        first, second = keys[0], keys[1]
        if kwargs.get("alpha", 1) != 1:
            scaled = self._new()
            self.steps.append(Step("mul", scaled, (second, self._operand(kwargs["alpha"]))))
            second = scaled
        pair = (second, first) if name == "rsub" else (first, second)
        return Step("add" if name == "add" else "sub", None, pair)

    def _clamped(self, args: Sequence[Any], kwargs: Mapping[str, Any], keys: Sequence[Key]) -> Step:
        value, low, high = keys[0], kwargs.get("min", args[1]), kwargs.get("max", args[2])
        if low is not None:
            raised = self._new()
            self.steps.append(Step("max", raised, (value, self._operand(low))))
            value = raised
        return (
            Step("keep", None, (value,)) if high is None else Step("min", None, (value, self._operand(high)))
        )


_BY_AXIS = frozenset({
    "index_select", "gather", "scatter", "scatter_", "scatter_add", "scatter_add_", "index_add", "index_add_", "index_fill",
    "index_copy", "scatter_reduce", "scatter_reduce_", "index_fill_", "index_copy_",
})  # fmt: skip
"""Operators of a table, an axis of it and an index."""


def _is_plain(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.layout == torch.strided and value.numel() > 0
