"""A smaller graph of the same function, by onnxslim.

onnxslim folds constants, removes operators that do nothing and fuses a few patterns. It was exact (0 to 1e-7) on 12 models
of five kinds; the caller compares anyway, and keeps the plain model where this one differs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import onnx_ir as ir

from mlconv.convert.onnx_graph.file import SINGLE_FILE_BYTES, in_memory, weight_bytes

if TYPE_CHECKING:
    from onnx import ModelProto

TIME_LIMIT_S = 120.0
"""A Swin transformer with 6,285 operators takes 18 s; what takes much longer is not worth the wait."""

GROWTH = 1.1
"""Folding a Tile or an Expand can make a model many times larger."""


@dataclass(frozen=True, slots=True)
class Optimized:
    """``model`` is None where nothing was gained; ``note`` says why, where a user should know."""

    model: ir.Model | None
    note: str | None = None


def optimized(model: ir.Model) -> Optimized:
    """The model after onnxslim, with the same inputs and outputs, or the reason why there is none."""
    size = weight_bytes(model)
    if size > SINGLE_FILE_BYTES:
        return Optimized(None, "not optimized: onnxslim takes no models beyond 2 GB")
    if model.functions:
        return Optimized(None, "not optimized: onnxslim takes no model-local functions")
    try:
        with _time_limit(TIME_LIMIT_S), _quiet():
            slimmed = _slimmed(in_memory(model))
    except ImportError:
        return Optimized(None, "not optimized: onnxslim is not installed")
    except TimeoutError:
        return Optimized(None, f"not optimized: onnxslim did not end within {TIME_LIMIT_S:.0f} s")
    except Exception as error:  # it raises whatever its patterns run into
        return Optimized(
            None,
            f"not optimized: onnxslim failed ({type(error).__name__}: {' '.join(str(error).split())[:120]})",
        )
    if _signature(slimmed) != _signature(model):
        return Optimized(None, "not optimized: onnxslim changed the inputs or outputs")
    grown = weight_bytes(slimmed)
    if grown > size * GROWTH + 4096:
        return Optimized(None, "not optimized: folding constants would make the model larger")
    return Optimized(_with_head(slimmed, model))


def _slimmed(model: ir.Model) -> ir.Model:
    """The model after onnxslim, which takes an input with a default for a constant: defaults wait outside."""
    model = model.clone()
    defaults = {}
    for value in model.graph.inputs:
        if value.is_initializer():
            assert value.name is not None
            defaults[value.name] = value.const_value
            del model.graph.initializers[value.name]
            value.const_value = None
    slimmed = ir.from_proto(_slim(ir.to_proto(model)))
    for value in slimmed.graph.inputs:
        if value.name in defaults:
            value.const_value = defaults[value.name]
            slimmed.graph.register_initializer(value)
    return slimmed


def _slim(proto: ModelProto) -> ModelProto:
    import onnxslim

    slimmed: ModelProto | None = onnxslim.slim(proto, size_threshold=_FOLDED_BYTES)
    if slimmed is None:
        raise RuntimeError("it returned no model")
    return slimmed


_FOLDED_BYTES = 16 << 20  # onnxslim's `size_threshold`: constants beyond it are not made


def _signature(model: ir.Model) -> list[tuple[str | None, ir.DataType | None]]:
    return [(value.name, value.dtype) for value in (*model.graph.inputs, *model.graph.outputs)]


def _with_head(slimmed: ir.Model, model: ir.Model) -> ir.Model:
    """What onnxslim has no business with: declared shapes of inputs and outputs, metadata, producer."""
    for own, other in zip(
        (*slimmed.graph.inputs, *slimmed.graph.outputs),
        (*model.graph.inputs, *model.graph.outputs),
        strict=True,
    ):
        own.shape = other.shape.copy() if other.shape is not None else None
    slimmed.graph.name, slimmed.doc_string = model.graph.name, model.doc_string
    slimmed.producer_name, slimmed.producer_version, slimmed.domain = (
        model.producer_name,
        model.producer_version,
        model.domain,
    )
    slimmed.metadata_props.clear()
    slimmed.metadata_props.update(model.metadata_props)
    return slimmed


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError inside Python code; only a main thread on a system with SIGALRM can be interrupted so."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    rest = signal.setitimer(signal.ITIMER_REAL, seconds)[0]
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, rest)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield
