"""What torch and a user's module raise, in mlconv's words."""

from __future__ import annotations

import re
import sysconfig
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from mlconv.convert.torch_import.inputs import examples
from mlconv.errors import (
    BadInputOption,
    ConversionError,
    ConverterFailed,
    DataDependentControlFlow,
    FixedAxis,
    InputsRefused,
    LeavesTensors,
    MlconvError,
    UnsupportedOperator,
    UserCodeRaised,
    listed,
)
from mlconv.messages import Scene, recognised, torch_words
from mlconv.tensors import TensorSpec, show_shape, typed

_LIBRARIES = (
    str(Path(torch.__file__).parent), str(Path(__file__).parents[2]), *(sysconfig.get_path(name) for name in ("stdlib", "purelib")),
    "<eval_with_key>", "<frozen",
)  # fmt: skip
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
_LEAVES = re.compile(r"\.numpy\(|\bnp\.|\bnumpy\.")
_NUMBER = re.compile(r"\b(int|float)\(|\.item\(|\.tolist\(")
_PACKS = re.compile(r"pack_padded_sequence|pad_packed_sequence")
_CHOICE = re.compile(r"\b(if|while|assert)\b")
_TRIALS, _TRIAL_NUMBERS = 32, 1 << 22
"""So many inputs are tried before one is advised, of at most so many numbers."""
_MISSING = re.compile(
    r"No ONNX function found for (?:<OpOverload\(op=')?(?P<op>[\w.]+)|Exporting the operator '(?P<ts>[\w:]+)'"
)


def user_raised(
    error: Exception, inputs: Sequence[TensorSpec], forward: Callable[..., object] | None = None
) -> MlconvError:
    """What to say where a source's own `forward` raised on example inputs.

    Args:
        forward: The module, on tensors in the inputs' order. Where the message tells which inputs it would take, they
            are run before they are advised.
    """
    told = f"{type(error).__name__}: {_first_line(error)}"
    place = source_line(error)
    scene = Scene("forward", "torch-cpu", tuple(inputs), is_asked=True, place=place)
    known = recognised(error, scene, torch_words.RUN)
    if isinstance(known, (BadInputOption, InputsRefused)) or _INTEGERS.search(str(error)):
        running = inputs_that_run(forward, inputs, str(error))
        if running and known is not None:
            known.fix = _input_options(running, inputs)
    if known is not None:
        return known
    floats = [spec for spec in inputs if spec.dtype == "float32"]
    if _INTEGERS.search(str(error)) and floats:
        return BadInputOption(
            "forward takes integers where `--input` gives float32", why=told,
            fix=" ".join(typed(spec.name, f"{show_shape(spec.shape)}:int64") for spec in floats[:1]),
        )  # fmt: skip
    return UserCodeRaised(
        f"forward raises on {scene.given}", why=told + (f" (at {place})" if place else ""),
        fix="give the shapes and dtypes that it takes: --input NAME=DIM,DIM,...:DTYPE",
    )  # fmt: skip


def inputs_that_run(
    forward: Callable[..., object] | None, inputs: Sequence[TensorSpec], text: str
) -> tuple[TensorSpec, ...] | None:
    """The first inputs, of those that a message suggests, on which a module runs; None where none does."""
    if forward is None:
        return None
    for found in torch_words.candidates(tuple(inputs), text)[:_TRIALS]:
        dims = {dim for spec in found for dim in spec.shape or () if isinstance(dim, str)}
        try:
            tensors = examples(found, dict.fromkeys(dims, 2), 0)
            if sum(tensor.numel() for tensor in tensors) > _TRIAL_NUMBERS:
                continue
            with torch.inference_mode():
                forward(*tensors)
        except Exception:  # whatever it raised before: these are not taken either
            continue
        return found
    return None


def _input_options(found: Sequence[TensorSpec], given: Sequence[TensorSpec]) -> str:
    """The `--input` options that make the given inputs the found ones."""
    return " ".join(
        typed(spec.name, show_shape(spec.shape) + (f":{spec.dtype}" if spec.dtype != old.dtype else ""))
        for spec, old in zip(found, given, strict=True)
        if spec != old
    )


def data_dependent(where: str | None, what: str | None = None) -> DataDependentControlFlow | LeavesTensors:
    """A branch or a size that hangs on the values of a tensor, or a value that leaves torch."""
    at = f", at {where}" if where else ""
    why = what or "an exported graph would keep the one branch that the example took"
    if where and _LEAVES.search(where):
        return LeavesTensors(
            f"forward leaves torch's tensors for numpy{at}", why="what is computed there would be a constant of the example",
            fix="compute it with torch's own functions (torch.tanh for np.tanh), or move it out of forward",
        )  # fmt: skip
    if where and _PACKS.search(where):
        return DataDependentControlFlow(
            f"the model packs sequences of lengths that are an input{at}", why="the packed length is a value, and a graph has one size",
            fix="run the layer on the padded batch, x in place of the packed sequence, and mask what it gives: "
            "y * (torch.arange(n) < lengths[:, None])[..., None]",
        )  # fmt: skip
    if where and _NUMBER.search(where) and not _CHOICE.search(where):
        return DataDependentControlFlow(
            f"the model computes with the values of its inputs as Python numbers{at}",
            why=what or "an exported graph would keep the example's number",
            fix="keep it a tensor: .long() for int(...), and in place of a slice of that length a mask, x * (torch.arange(n) < count)",
        )  # fmt: skip
    return DataDependentControlFlow(
        f"the model's control flow depends on the values of its inputs{at}", why=why,
        fix="write the branch with torch.where or torch.cond, or convert torch.jit.script(module), which keeps both",
    )  # fmt: skip


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


def fixed_axis(axis: str, size: int | None) -> FixedAxis:
    """An axis that was to be dynamic, and that the model holds to one size."""
    return FixedAxis(
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
    quantized = any(name.startswith("quantized") for name in missing)
    if missing and not quantized:
        return unsupported(missing, tool)
    known = recognised(error, Scene("the model", place=source_line(error)), torch_words.EXPORT)
    if isinstance(known, ConversionError):
        return known
    return ConverterFailed(
        f"{tool} gave up", why=_decisive_line(error),
        fix="try another --opset, convert torch.jit.script(module) or a .pt2 of torch.export; --debug shows the traceback",
    )  # fmt: skip


def unsupported(operators: Sequence[str], tool: str) -> UnsupportedOperator:
    quantized = [name for name in operators if name.startswith("quantized")]
    if quantized:
        return torch_words.quantized(quantized[0])
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
