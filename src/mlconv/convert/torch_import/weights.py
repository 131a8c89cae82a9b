"""Laying a state dict into a module: under which prefix, in which dtype, and what to say where it does not fit."""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sized
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from mlconv.convert.torch_import.checkpoint import (
    State,
    Weights,
    extra_of,
    read_state,
    read_weights,
    versions_of,
)
from mlconv.convert.torch_import.ref import Built
from mlconv.errors import UntrustedPickle, UserCodeRaised, WeightsMismatch, counted, listed, nearest
from mlconv.formats.refs import for_shell
from mlconv.formats.torch_checkpoint import EXTRA, StateDict

__all__ = ["Fit", "load_weights", "read_state", "read_weights"]

_PREFIXES = (
    "module.", "_orig_mod.", "model.", "net.", "network.", "generator.", "teacher.", "student.", "ema.",
)  # fmt: skip
_QUIET = re.compile(r"(module\.|_orig_mod\.|model\.)*")
"""Prefixes that only say how the module was wrapped; any other one is a choice, and is told."""
_INSIDE = re.compile(r"(^|\.)(?:(?:module|_orig_mod)\.)+")
_BOOKKEEPING = ("num_batches_tracked", "total_ops", "total_params", "n_averaged")
"""Counters that no inference reads; torch 0.4 and earlier had none, profilers and averaging add some."""
_CLASSES = ("num_classes", "n_classes", "num_class", "nb_classes", "classes", "nclasses", "nc", "num_labels", "n_labels",
            "num_outputs", "out_features", "output_dim", "out_dim", "out_channels", "n_out")  # fmt: skip
"""What constructors call the number of classes."""
_OF_A_CLASSIFIER = 4  # tensors: two layers with their biases
_ALIKE = 0.5
"""Share of the module's tensors that a file of the same architecture has by name at the least."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How a state dict was laid into a module.

    Attributes:
        left_out: Tensors of the file that the module does not take.
        notes: What users should know, one sentence each.
    """

    left_out: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Renamed:
    """A state dict whose names are those of the module, if the prefix is right."""

    prefix: str
    state: State


def load_weights(built: Built, weights: Weights, prefix: str | None = None) -> Fit:
    """Lay a state dict into a module: under the prefix, or without one under whichever fits best.

    Raises:
        WeightsMismatch: No tensor has the prefix; or tensors that the module needs are missing, have another shape or
            are quantized, or the file has others in their place. All are listed, with the nearest names. Or numbers do
            not fit the module's dtypes or its tied weights, or extra state that it keeps is missing.
        UntrustedPickle: The module needs extra state that only loading the file would give.
        UserCodeRaised: Code of the module's own raised while it loaded them.
    """
    module = built.module
    entries = module.state_dict(keep_vars=True)
    own = {
        key: value
        for key, value in entries.items()
        if isinstance(value, torch.Tensor) and key.rpartition(".")[2] != EXTRA
    }
    notes: list[str] = []
    if prefix is not None:
        chosen = _Renamed(prefix, _with_prefix(weights, prefix))
    else:
        chosen = _best(weights, own, notes)
    state = chosen.state
    used = {id(tensor) for tensor in state.values()}
    left_out = tuple(key for key, tensor in weights.tensors.items() if id(tensor) not in used)
    missing = [key for key in own if key not in state and not key.endswith(_BOOKKEEPING)]
    missing = [key for key in missing if not _is_tied(own[key], own, state)]
    unexpected = [key for key in state if key not in own and not key.endswith(_BOOKKEEPING)]
    misfit = [key for key in own if key in state and not _fits(own[key], state[key])]
    kinds = [key for key in misfit if own[key].shape == state[key].shape]
    if kinds or ((missing or unexpected or misfit) and not _migrates(module)):
        raise _Mismatch(built, weights, chosen, own, missing, unexpected, misfit).error()
    notes += _converted(own, state)
    dense = {
        key: (tensor.dequantize() if tensor.is_quantized else tensor).resolve_conj().resolve_neg()
        for key, tensor in state.items()
        if key in own or unexpected
    }
    _assert_tied_alike(own, dense, weights.name)
    _assert_numbers_fit(own, dense, weights.name)
    extra = _ExtraState(entries, weights, state)
    try:
        wrong = _load(module, dense, extra.taken, versions_of(state), own)
    except Exception as error:  # whatever a module's own code raises
        if not missing and not unexpected and not misfit:
            raise UserCodeRaised(
                f"loading `{weights.name}` into the module raised {type(error).__name__}", why=str(error)[:1000] or None,
                fix="module.load_state_dict(...) of this file shows the whole traceback",
            ) from error  # fmt: skip
        raise _Mismatch(built, weights, chosen, own, missing, unexpected, misfit).error() from error
    if missing or unexpected:
        missing = [key for key in wrong.missing_keys if key in missing]
        unexpected = [key for key in wrong.unexpected_keys if key in unexpected]
        if missing or unexpected:
            raise _Mismatch(built, weights, chosen, own, missing, unexpected, misfit).error()
        notes.append(f"the module's own code took the tensors of {weights.name} under names of its own")
    extra.assert_whole()
    notes += extra.notes
    notes += _changed(module, own, dense, versions_of(state), weights.name)
    if left_out:
        notes.append(
            f"{counted(len(left_out), 'tensor')} of {weights.name} {'is' if len(left_out) == 1 else 'are'} not the module's: {listed(left_out, 3)}"
        )
    return Fit(left_out, tuple(notes))


# ------------------------------------------------------------------ what loading does


def _migrates(module: torch.nn.Module) -> bool:
    """Whether a part of a module renames what older files hold, by code of its own or a hook."""
    plain = torch.nn.Module._load_from_state_dict  # noqa: SLF001
    return any(
        (
            type(part)._load_from_state_dict is not plain  # noqa: SLF001
            and not type(part).__module__.startswith("torch.nn.modules.")
        )
        or part._load_state_dict_pre_hooks  # noqa: SLF001
        for part in module.modules()
    )


def _load(
    module: torch.nn.Module, dense: Mapping[str, torch.Tensor], extra: Mapping[str, Any],
    versions: Mapping[Any, Any] | None, own: Mapping[str, torch.Tensor],
) -> Any:  # fmt: skip
    """Lay it in as torch does, with the versions by which modules tell what older ones wrote."""
    state: OrderedDict[str, Any] = OrderedDict({**dense, **extra})
    if versions is not None:
        state._metadata = {  # type: ignore[attr-defined]  # noqa: SLF001
            path: dict(told) for path, told in versions.items() if isinstance(told, Mapping)
        }
    return module.load_state_dict(state, strict=False, assign=any(tensor.is_meta for tensor in own.values()))


class _ExtraState:
    """What modules keep beside their tensors (``get_extra_state``), out of the file.

    Attributes:
        taken: What the module takes, by name.
        notes: What users should know.
    """

    def __init__(self, entries: Mapping[str, Any], weights: Weights, state: State) -> None:
        found = extra_of(state)
        kept = [extra_of(weights.tensors), *map(extra_of, weights.rivals.values())]
        unread = [items[name] for items in kept for name in weights.unread & items.keys()]
        wanted = {key: value for key, value in entries.items() if key.rpartition(".")[2] == EXTRA}
        self._file = weights.name
        self._unread = [key for key in wanted if key in found and any(found[key] is item for item in unread)]
        self._missing = [key for key, value in wanted.items() if key not in found and not _is_empty(value)]
        self.taken = {key: found[key] for key in wanted if key in found and key not in self._unread}
        left = [key for key in found if key not in wanted]
        self.notes = [f"extra state of {weights.name} is not the module's: {listed(left, 3)}"] if left else []

    def assert_whole(self) -> None:
        """Refuse a module that would compute with state of its constructor's.

        Raises:
            UntrustedPickle: Only loading the file would give some of it.
            WeightsMismatch: The file has none where the module's is not empty.
        """
        if self._unread:
            raise UntrustedPickle(
                f"the module takes {listed(self._unread)} of `{self._file}`, which only loading it would give",
                why="it is no tensor: the file's pickle would put it together",
                fix="--trust-pickle, if you know who made the file",
            )
        if self._missing:
            raise WeightsMismatch(
                f"`{self._file}` does not fit the module: it lacks {listed(self._missing)}",
                why="the module keeps state there that is no weight, and would compute with what it was built with",
                fix="save module.state_dict() of the trained network with torch.save, and give that file",
            )


def _is_empty(value: object) -> bool:
    if isinstance(value, torch.Tensor):
        return value.numel() == 0
    return value is None or (isinstance(value, Sized) and len(value) == 0)


def _assert_tied_alike(own: Mapping[str, torch.Tensor], dense: Mapping[str, torch.Tensor], name: str) -> None:
    """Weights that the module shares under several names must be the same in the file, or one of them would win.

    Raises:
        WeightsMismatch: They differ.
    """
    first: dict[int, str] = {}
    for key, tensor in own.items():
        if key not in dense or tensor.is_meta:
            continue
        other = first.setdefault(id(tensor), key)
        if other != key and not _same(dense[other], dense[key]):
            raise WeightsMismatch(
                f"`{name}` does not fit the module: it has other numbers in `{key}` than in `{other}`",
                why="the module has one tensor under both names, and could keep only one of the two",
                fix="name a module that does not tie these weights, as the one that was trained",
            )


def _assert_numbers_fit(
    own: Mapping[str, torch.Tensor], dense: Mapping[str, torch.Tensor], name: str
) -> None:
    """Refuse what conversion would silently make other numbers of.

    Raises:
        WeightsMismatch: Numbers of the file cannot be had in the module's dtype: they overflow, or lose a part.
    """
    bad = [
        f"`{key}` {_dtype(dense[key])} where the module has {_dtype(tensor)}"
        for key, tensor in own.items()
        if key in dense and not tensor.is_meta and not _holds(tensor.dtype, dense[key])
    ]
    if bad:
        raise WeightsMismatch(
            f"`{name}` does not fit the module: its dtype cannot hold the numbers of {counted(len(bad), 'tensor')}",
            why="; ".join(bad[:8]) + _more(bad),
            fix="build the module with the dtypes that it was trained with",
        )


def _holds(dtype: torch.dtype, found: torch.Tensor) -> bool:
    """Whether a dtype holds these numbers: whole ones exactly, real ones without overflow, complex ones as such."""
    if dtype == found.dtype:
        return True
    if found.is_complex() and not dtype.is_complex:
        return not bool(found.imag.any()) and _holds(dtype, found.real)
    if dtype.is_complex:
        return True
    made = found.to(dtype)
    if not dtype.is_floating_point:
        return _same(made.to(found.dtype), found)
    if not found.is_floating_point():
        return True
    return bool((made.to(torch.float32).isfinite() == _wide(found).isfinite()).all())


def _changed(
    module: torch.nn.Module, own: Mapping[str, torch.Tensor], dense: Mapping[str, torch.Tensor],
    versions: Mapping[Any, Any] | None, name: str,
) -> list[str]:  # fmt: skip
    """What the module's own code made of the tensors of the file, told."""
    now = module.state_dict(keep_vars=True)
    with torch.no_grad():
        changed = [
            key for key in own
            if key in dense and not (isinstance(now.get(key), torch.Tensor) and _same(now[key], dense[key].to(now[key].dtype)))
        ]  # fmt: skip
    if not changed:
        return []
    without = (
        "" if versions else f"; {name} does not tell which version of it wrote them, so it took the first"
    )
    return [
        f"the module's own code changed {counted(len(changed), 'tensor')} of {name} as it loaded them: {listed(changed, 3)}{without}"
    ]


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors hold the same numbers; what is not a number is so in both."""
    if one.shape != other.shape or one.dtype != other.dtype:
        one, other = _wide(one), _wide(other)
    if one.shape != other.shape:
        return False
    one, other = _wide(one), _wide(other)
    return bool(((one == other) | ((one != one) & (other != other))).all())


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    """Real numbers of less than 16 bits as float32: torch compares no smaller ones."""
    tensor = tensor.detach().dequantize() if tensor.is_quantized else tensor.detach()
    return tensor.to(torch.float32) if tensor.is_floating_point() and tensor.element_size() == 1 else tensor


# ------------------------------------------------------------------ which tensors


def _with_prefix(weights: Weights, prefix: str) -> State:
    """The tensors whose names begin with exactly that prefix, without it; a key of the file may lead to them.

    Raises:
        WeightsMismatch: There are none.
    """
    places = {".".join(weights.under): weights.tensors, **weights.rivals}
    for start in (prefix, prefix.removesuffix(".") + "."):
        found = _without(weights.tensors, start)
        if found and not any(name.startswith(".") for name in found):
            return found
        for key, state in places.items():
            rest = start.removeprefix(f"{key}.")
            if key and rest != start and (inner := _without(state, rest)):
                return inner
    counts: Counter[str] = Counter()
    for name in weights.tensors:
        parts = name.split(".")[:-1]
        counts.update(".".join(parts[: depth + 1]) + "." for depth in range(min(len(parts), 2)))
    names = [*dict(counts.most_common()), *(f"{key}." for key in weights.rivals)]
    close = nearest(prefix, names, 1) or names[:1]
    shown = ", ".join(
        f"`{name}`" + (f" ({counted(counts[name], 'tensor')})" if name in counts else "")
        for name in names[:8]
    )
    raise WeightsMismatch(
        f"no tensor of `{weights.name}` has a name that begins with `{prefix}`",
        why=f"their prefixes are {shown}" if names else "their names have no prefix",
        fix=f"--weights-prefix {for_shell(close[0])}" if close else "leave --weights-prefix out",
    )


def _best(weights: Weights, own: Mapping[str, torch.Tensor], notes: list[str]) -> _Renamed:
    """The renaming under which most tensors fit; what else would have done is told."""
    usual = list(_renamings(weights.tensors, own))
    chosen = max(usual, key=lambda renamed: _matches(renamed.state, own))
    if not _is_whole(chosen.state, own):
        parts = _whole_parts(weights.tensors, own)
        if len(parts) != 1:
            return chosen
        chosen = parts[0]
    whole = [
        renamed for renamed in (*usual, *_whole_parts(weights.tensors, own)) if _is_whole(renamed.state, own)
    ]
    taken = {id(tensor) for tensor in chosen.state.values()}
    others = [
        renamed.prefix for renamed in whole
        if renamed.prefix != chosen.prefix and not taken & {id(tensor) for tensor in renamed.state.values()}
    ]  # fmt: skip
    others += [
        f"{key}."
        for key, state in weights.rivals.items()
        if any(_is_whole(r.state, own) for r in _renamings(state, own))
    ]
    others = list(dict.fromkeys(others))
    where = f"`{chosen.prefix}`" if chosen.prefix else f"`{'.'.join(weights.under)}`"
    if others:
        notes.append(
            f"the weights under {where} of {weights.name} were taken; --weights-prefix {for_shell(others[0])} takes others that fit"
        )
    elif not _QUIET.fullmatch(chosen.prefix):
        notes.append(f"the weights under {where} of {weights.name} were taken")
    return chosen


def _renamings(state: State, own: Mapping[str, torch.Tensor]) -> Iterator[_Renamed]:
    """The state dict as it is, without each usual prefix and chain of them, and with the one that the module has."""
    seen = {""}
    waiting = [""]
    while waiting:
        prefix = waiting.pop(0)
        yield _Renamed(prefix, _without(state, prefix))
        longer = [prefix + more for more in _PREFIXES if any(key.startswith(prefix + more) for key in state)]
        waiting += [more for more in longer if more not in seen]
        seen.update(longer)
    for prefix in _shared_prefixes(own):
        yield _Renamed("", _renamed(state, lambda key, prefix=prefix: prefix + key))  # type: ignore[misc]
    if any(_INSIDE.search(key) for key in (*state, *own)):
        # parts that were wrapped one by one: `features.module.0.weight`
        paths = {f"{path}{_MODULE}" for key in own for path in _ancestors(key)}
        names = {_INSIDE.sub(r"\1", key): key for key in (*own, *sorted(paths))}
        yield _Renamed("", _renamed(state, lambda key: names.get(plain := _INSIDE.sub(r"\1", key), plain)))


def _shared_prefixes(own: Mapping[str, torch.Tensor]) -> Iterator[str]:
    """What all names of the module begin with: the file may hold the part alone that it wraps."""
    parts = [key.split(".")[:-1] for key in own]
    for depth in range(1, min(map(len, parts), default=0) + 1):
        if any(part[:depth] != parts[0][:depth] for part in parts):
            return
        yield ".".join(parts[0][:depth]) + "."


def _whole_parts(state: State, own: Mapping[str, torch.Tensor]) -> list[_Renamed]:
    """The parts of a state dict, each under a prefix of any name, that are the module's state dict."""
    first = next((key for key in own if not key.endswith(_BOOKKEEPING)), None)
    prefixes = [name.removesuffix(first) for name in state if first and name.endswith(f".{first}")]
    parts = [_Renamed(prefix, _without(state, prefix)) for prefix in prefixes]
    return [part for part in parts if _is_whole(part.state, own)]


def _without(state: State, prefix: str) -> State:
    return _renamed(
        state, lambda key: key[len(prefix) :] if key.startswith(prefix) and key != prefix else None
    )


_MODULE = ".\0"
"""Stands behind a module's path, where the name of a tensor would: so both are renamed alike."""


def _renamed(state: State, rename: Callable[[str], str | None]) -> State:
    """A state dict under other names, with its versions and extra state; what gets none is left out."""

    def named(items: Mapping[str, Any]) -> dict[str, Any]:
        return {new: item for key, item in items.items() if (new := rename(key)) is not None}

    versions = versions_of(state)
    if versions is not None:
        paths = named(
            {(f"{path}{_MODULE}" if path else _MODULE[1:]): told for path, told in versions.items()}
        )
        versions = {path.removesuffix(_MODULE[1:]).removesuffix("."): told for path, told in paths.items()}
    return StateDict(named(state), versions, named(extra_of(state)))


def _ancestors(key: str) -> Iterator[str]:
    """The paths of the modules around a tensor, without that of the outermost."""
    parts = key.split(".")[:-1]
    return (".".join(parts[:depth]) for depth in range(1, len(parts) + 1))


def _matches(state: State, own: Mapping[str, torch.Tensor]) -> int:
    return sum(key in own and _fits(own[key], tensor) for key, tensor in state.items())


def _is_whole(state: State, own: Mapping[str, torch.Tensor]) -> bool:
    """Whether it is the module's state dict: nothing missing, nothing else, all shapes right."""
    return all(
        (key in state and _fits(tensor, state[key]))
        or key.endswith(_BOOKKEEPING)
        or _is_tied(tensor, own, state)
        for key, tensor in own.items()
    ) and all(key in own or key.endswith(_BOOKKEEPING) for key in state)


def _fits(own: torch.Tensor, found: torch.Tensor) -> bool:
    """Whether a tensor of the file can take the place of the module's: its shape, and numbers of the same kind."""
    if isinstance(own, (UninitializedParameter, UninitializedBuffer)):
        return True
    return own.shape == found.shape and (_is_real(found) or not _is_real(own))


def _is_real(tensor: torch.Tensor) -> bool:
    """Whether its elements are real numbers. Integers in their place are quantized weights without their scale."""
    return tensor.is_floating_point() or tensor.is_complex() or tensor.is_quantized


def _is_tied(tensor: torch.Tensor, own: Mapping[str, torch.Tensor], state: State) -> bool:
    """Whether the module has the tensor under another name too, which the file has; safetensors keeps each once."""
    return any(other is tensor and name in state for name, other in own.items())


def _converted(own: Mapping[str, torch.Tensor], state: State) -> list[str]:
    """What laying them in does to the numbers."""
    pairs = {
        (str(state[key].dtype).removeprefix("torch."), str(tensor.dtype).removeprefix("torch."))
        for key, tensor in own.items()
        if key in state and not tensor.is_meta and not state[key].is_quantized and tensor.is_floating_point()
        and state[key].dtype != tensor.dtype
    }  # fmt: skip
    told = [
        f"the weights are {' and '.join(sorted(old for old, new in pairs if new == to))} and were converted to {to}"
        for to in sorted({new for _, new in pairs})
    ]
    quantized = [key for key in own if key in state and state[key].is_quantized]
    if quantized:
        told.append(
            f"{counted(len(quantized), 'tensor')} {'is' if len(quantized) == 1 else 'are'} quantized and {'was' if len(quantized) == 1 else 'were'} dequantized: {listed(quantized, 3)}"
        )
    return told


# ------------------------------------------------------------------ what does not fit


@dataclass(frozen=True, slots=True)
class _Mismatch:
    built: Built
    weights: Weights
    chosen: _Renamed
    own: Mapping[str, torch.Tensor]
    missing: list[str]
    unexpected: list[str]
    misfit: list[str]

    def error(self) -> WeightsMismatch:
        parts = _whole_parts(self.weights.tensors, self.own)
        if len(parts) > 1:
            return WeightsMismatch(
                f"{len(parts)} parts of `{self.weights.name}` fit the module: {listed([part.prefix for part in parts])}",
                fix=f"--weights-prefix {for_shell(parts[0].prefix)}",
            )
        shapes = [key for key in self.misfit if self.own[key].shape != self.chosen.state[key].shape]
        kinds = [key for key in self.misfit if key not in shapes]
        counts = [
            (len(self.missing), "missing"),
            (len(self.unexpected), "unexpected"),
            (len(shapes), "of another shape"),
            (len(kinds), "quantized"),
        ]
        return WeightsMismatch(
            f"`{self.weights.name}` does not fit the module: "
            + ", ".join(f"{count} {word}" for count, word in counts if count),
            why="; ".join(self._parts(shapes, kinds)), fix=self._fix(shapes, kinds),
        )  # fmt: skip

    def _parts(self, shapes: list[str], kinds: list[str]) -> Iterator[str]:
        alike = sum(key in self.own for key in self.chosen.state)
        if alike < _ALIKE * len(self.own):
            yield (
                f"this looks like another architecture: the file has {alike} of the {len(self.own)} tensors that the "
                f"module has"
            )
        if self.missing:
            near = [(key, nearest(key, self.unexpected, 1)) for key in self.missing[:8]]
            told = ", ".join(
                f"`{key}`" + (f" (the file has `{close[0]}`)" if close else "") for key, close in near
            )
            yield f"missing: {told}{_more(self.missing)}"
        if self.unexpected:
            yield f"not in the module: {listed(self.unexpected)}"
        state, own = self.chosen.state, self.own
        if shapes:
            told = ", ".join(
                f"`{key}` {list(state[key].shape)} where the module has {list(own[key].shape)}"
                for key in shapes[:8]
            )
            yield f"of another shape: {told}{_more(shapes)}"
        if kinds:
            told = ", ".join(
                f"`{key}` {_dtype(state[key])} where the module has {_dtype(own[key])}" for key in kinds[:8]
            )
            yield f"quantized, and their scales are not known: {told}{_more(kinds)}"

    def _fix(self, shapes: list[str], kinds: list[str]) -> str:
        if kinds:
            return "give the weights as they were before quantization, or a .pt2 of the quantized module"
        if shapes and not self.missing and not self.unexpected:
            return (
                self._with_classes(shapes)
                or "build the module with the arguments that it was trained with" + self._shown()
            )
        return (
            f"name the network that was trained, in place of `{self.built.ref}`; `mlconv inspect` and the names above "
            "tell what the file holds"
        )

    def _with_classes(self, shapes: list[str]) -> str | None:
        """The REF with the file's number of classes, where one argument of it can be told to be that number."""
        sizes = {
            (self.own[key].shape[0], self.chosen.state[key].shape[0])
            for key in shapes
            if self.own[key].dim() and self.own[key].shape[1:] == self.chosen.state[key].shape[1:]
        }
        arguments = self.built.arguments
        for name in (*(name for name in _CLASSES if name in arguments), *arguments):
            value = arguments[name]
            wanted = {new for old, new in sizes if type(value) is int and old == value}
            if len(wanted) == 1:
                return for_shell(str(self.built.with_argument(name, wanted.pop())))
        if len({new for _, new in sizes}) != 1:
            return None
        ((_, wanted_classes), *_) = sizes
        name = next((name for name in _CLASSES if name in arguments), "")
        if not name and self.built.takes_any and len(shapes) <= _OF_A_CLASSIFIER:
            name = "num_classes"
        return for_shell(str(self.built.with_argument(name, wanted_classes))) if name else None

    def _shown(self) -> str:
        names = [name for name in _CLASSES if name in self.built.arguments] or list(self.built.arguments)
        return f": `{self.built.ref.place}:{self.built.ref.name}` takes {listed(names)}" if names else ""


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _more(names: list[Any], limit: int = 8) -> str:
    return f" and {len(names) - limit} more" if len(names) > limit else ""
