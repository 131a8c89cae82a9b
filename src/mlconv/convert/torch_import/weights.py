"""Laying a state dict into a module: under which prefix, in which dtype, and what to say where it does not fit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from mlconv.convert.torch_import.checkpoint import State, Weights, read_state, read_weights
from mlconv.convert.torch_import.ref import Built
from mlconv.errors import WeightsMismatch, listed, nearest
from mlconv.formats.refs import for_shell

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
            are quantized, or the file has others in their place. All are listed, with the nearest names.
    """
    module = built.module
    own = {
        key: value
        for key, value in module.state_dict(keep_vars=True).items()
        if isinstance(value, torch.Tensor)
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
    if missing or unexpected or misfit:
        raise _Mismatch(built, weights, chosen, own, missing, unexpected, misfit).error()
    notes += _converted(own, state)
    dense = {
        key: state[key].dequantize() if state[key].is_quantized else state[key] for key in own if key in state
    }
    module.load_state_dict(dense, strict=False, assign=any(tensor.is_meta for tensor in own.values()))
    if left_out:
        notes.append(f"{len(left_out)} tensors of {weights.name} are not the module's: {listed(left_out, 3)}")
    return Fit(left_out, tuple(notes))


# ------------------------------------------------------------------ which tensors


def _with_prefix(weights: Weights, prefix: str) -> State:
    """The tensors whose names begin with exactly that prefix, without it; a key of the file may lead to them.

    Raises:
        WeightsMismatch: There are none.
    """
    for start in (prefix, prefix.removesuffix(".") + "."):
        found = _without(weights.tensors, start)
        if found and not any(name.startswith(".") for name in found):
            return found
        key, _, rest = start.partition(".")
        if key in weights.rivals and (inner := _without(weights.rivals[key], rest)):
            return inner
    counts: Counter[str] = Counter()
    for name in weights.tensors:
        parts = name.split(".")[:-1]
        counts.update(".".join(parts[: depth + 1]) + "." for depth in range(min(len(parts), 2)))
    names = [*dict(counts.most_common()), *(f"{key}." for key in weights.rivals)]
    close = nearest(prefix, names, 1) or names[:1]
    shown = ", ".join(
        f"`{name}`" + (f" ({counts[name]} tensors)" if name in counts else "") for name in names[:8]
    )
    raise WeightsMismatch(
        f"no tensor of `{weights.name}` has a name that begins with `{prefix}`",
        why=f"their prefixes are {shown}" if names else "their names have no prefix",
        fix=f"--weights-prefix {close[0]}" if close else "leave --weights-prefix out",
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
            f"the weights under {where} of {weights.name} were taken; --weights-prefix {others[0]} takes others that fit"
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
        yield _Renamed("", {prefix + key: tensor for key, tensor in state.items()})
    if any(_INSIDE.search(key) for key in (*state, *own)):
        # parts that were wrapped one by one: `features.module.0.weight`
        names = {_INSIDE.sub(r"\1", key): key for key in own}
        yield _Renamed(
            "", {names.get(plain := _INSIDE.sub(r"\1", key), plain): tensor for key, tensor in state.items()}
        )


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
    return {
        key[len(prefix) :]: tensor
        for key, tensor in state.items()
        if key.startswith(prefix) and key != prefix
    }


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
        told.append(f"{len(quantized)} tensors are quantized and were dequantized: {listed(quantized, 3)}")
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
                fix=f"--weights-prefix {parts[0].prefix}",
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
