"""What torch and a user's module raise, in mlconv's words."""

from __future__ import annotations

import re
import traceback
from collections.abc import Sequence
from pathlib import Path

import torch

from mlconv.errors import (
    BadInputOption,
    ConversionError,
    ConverterFailed,
    DataDependentControlFlow,
    MlconvError,
    UnsupportedOperator,
    UnsupportedType,
    UserCodeRaised,
    listed,
)
from mlconv.tensors import TensorSpec, show_shape

_LIBRARIES = (str(Path(torch.__file__).parent), str(Path(__file__).parents[2]), "<eval_with_key>", "<frozen")
_INTEGERS = re.compile(
    r"scalar types?:? .*(Long|Int\b)|tensors used as indices must be long|Expected .* type .*(Long|Int)"
)
_DATA_DEPENDENT = re.compile(
    r"data-dependent|GuardOnDataDependent|Dynamic control flow is not supported|UnspecializedInput|unbacked symint",
    re.IGNORECASE,
)
_SPECIALIZED = re.compile(
    r"marked (?P<axis>\S+) as dynamic but your code specialized it to be a constant \((?P<size>\d+)\)"
)
_MISSING = re.compile(
    r"No ONNX function found for (?:<OpOverload\(op=')?(?P<op>[\w.]+)|Exporting the operator '(?P<ts>[\w:]+)'"
)


def user_raised(error: Exception, inputs: Sequence[TensorSpec]) -> MlconvError:
    """What to say where a source's own `forward` raised on example inputs."""
    told = f"{type(error).__name__}: {_first_line(error)}"
    place = source_line(error)
    shapes = ", ".join(f"`{spec.name}` {show_shape(spec.shape)} {spec.dtype}" for spec in inputs)
    floats = [spec for spec in inputs if spec.dtype == "float32"]
    if _INTEGERS.search(str(error)) and floats:
        return BadInputOption(
            "forward takes integers where `--input` gives float32", why=told,
            fix=" ".join(f"--input {spec.name}={show_shape(spec.shape)}:int64" for spec in floats[:1]),
        )  # fmt: skip
    return UserCodeRaised(
        f"forward raises on {shapes or 'no inputs'}", why=told + (f" (at {place})" if place else ""),
        fix="give the shapes and dtypes that it takes: --input NAME=DIM,DIM,...:DTYPE",
    )  # fmt: skip


def data_dependent(where: str | None, what: str | None = None) -> DataDependentControlFlow:
    """A branch or a size that hangs on the values of a tensor."""
    return DataDependentControlFlow(
        f"the model's control flow depends on the values of its inputs{f', at {where}' if where else ''}",
        why=what or "an exported graph would keep the one branch that the example took",
        fix="write the branch with torch.where or torch.cond, or convert torch.jit.script(module), which keeps both",
    )


def is_data_dependent(error: BaseException) -> bool:
    chain: BaseException | None = error
    while chain is not None:
        if _DATA_DEPENDENT.search(type(chain).__name__) or _DATA_DEPENDENT.search(str(chain)[:4000]):
            return True
        chain = chain.__cause__
    return False


def specialized_axes(error: BaseException) -> dict[str, int]:
    """The axes, as torch names them, that a model holds to one size, and that size."""
    return {match["axis"]: int(match["size"]) for match in _SPECIALIZED.finditer(str(error))}


def fixed_axis(axis: str, size: int | None) -> ConverterFailed:
    """An axis that was to be dynamic, and that the model holds to one size."""
    return ConverterFailed(
        f"the model holds the axis `{axis}` to "
        + (f"the size {size}" if size is not None else "the size of its example"),
        why="its code computes with that size as a constant, so a graph with a dynamic axis would be wrong at others",
        fix=f"give a number in place of `{axis}` in --input, or take the constant out of forward (view(-1, ...), x.shape)",
    )


def bounded_axis(axis: str, low: int, high: int | None, fix: str) -> DataDependentControlFlow:
    """An axis beyond whose bounds the model does something else.

    Args:
        low: The least size for which the graph holds.
        high: The greatest; None where there is none.
    """
    span = f"{low} to {high}" if high is not None else f"{low} and above"
    return DataDependentControlFlow(
        f"the model takes another branch where the axis `{axis}` leaves {span}",
        why=f"a graph holds one branch, and torch.export finds the example's to hold for `{axis}` of {span} alone",
        fix=fix,
    )


def branch_on_size(axis: str, size: int, example: int) -> DataDependentControlFlow:
    """An axis at one size of which the module does something else than its trace."""
    return DataDependentControlFlow(
        f"the model's control flow depends on the size of the axis `{axis}`",
        why=f"the graph of `{axis}`={example} differs from the module at `{axis}`={size}",
        fix=f"give `{axis}` a range on one side of the branch, as in {axis}=LOW..HIGH, or a number, in --input; "
        "or convert torch.jit.script(module), which keeps both branches",
    )


def exporter_failed(error: BaseException, tool: str) -> ConversionError:
    """What to say where an exporter gave up for a reason that is no control flow."""
    if isinstance(error, ConversionError):
        return error
    missing = missing_operators(error)
    if missing:
        return unsupported(missing, tool)
    if "complex" in str(error).lower():
        return UnsupportedType(
            "the model computes with complex numbers in a way that ONNX has no form for", why=_decisive_line(error),
            fix="split them into real and imaginary parts (torch.view_as_real)",
        )  # fmt: skip
    return ConverterFailed(
        f"{tool} gave up", why=_decisive_line(error),
        fix="try another --opset, convert torch.jit.script(module) or a .pt2 of torch.export; --debug shows the traceback",
    )  # fmt: skip


def unsupported(operators: Sequence[str], tool: str) -> UnsupportedOperator:
    count = (
        f"{len(operators)} operators of the model have"
        if len(operators) > 1
        else "an operator of the model has"
    )
    return UnsupportedOperator(
        f"{count} no ONNX form in the {tool}: {listed(operators, 20)}",
        fix="compute it another way in forward, try a higher --opset, or move it out of the model",
    )


def missing_operators(error: BaseException) -> list[str]:
    """The operators that an exporter says it does not know; torch names the first one alone."""
    found: dict[str, None] = {}
    chain: BaseException | None = error
    while chain is not None:
        found |= dict.fromkeys(match["op"] or match["ts"] for match in _MISSING.finditer(str(chain)))
        chain = chain.__cause__
    return list(found)


def source_line(error: BaseException) -> str | None:
    """The innermost line of the user's own code: ``net.py:12 `if x.sum() > 0:```."""
    return own_line(traceback.extract_tb(error.__traceback__))


def own_line(frames: Sequence[traceback.FrameSummary]) -> str | None:
    """As ``source_line``, of a stack."""
    own = [frame for frame in frames if not frame.filename.startswith(_LIBRARIES)]
    if not own:
        return None
    text = f" `{own[-1].line.strip()}`" if own[-1].line else ""
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}{text}"


def _first_line(error: BaseException) -> str:
    """The first line; of an error in TorchScript, which begins with a preamble and a listing, the last one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["without a message"]
    return (lines[-1].removeprefix("RuntimeError: ") if "TorchScript" in lines[0] else lines[0])[:400]


def _decisive_line(error: BaseException) -> str:
    """The innermost cause's first line: exporters wrap what happened in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    decisive = next(
        (line for line in lines if re.search(r"\b\w+(Error|Exception)\b", line)), lines[0] if lines else ""
    )
    return f"{type(error).__name__}: {decisive[:400]}"
