"""Chains of pointwise operators between two 8-bit tensors, written as the one table that they are.

MoveNet's picture goes through CAST, QUANTIZE, SUB, MUL and SUB, which together give every code back: 256 answers by LiteRT's
own arithmetic show it. A chain is written in one piece where that is no slower (``COST``); it is right even where the
operators by themselves meet ties.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from mlconv.convert.tflite_import.codes import ACTIVATION_RANGES, Codes
from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.exact import tables
from mlconv.convert.tflite_import.exact.codes import COST, RAW, cost_of
from mlconv.convert.tflite_import.exact.pair_kernels import (
    BuiltinProduct,
    BuiltinSum,
    Kernel,
    product_kernel,
    sum_kernel,
)
from mlconv.convert.tflite_import.ops import activation
from mlconv.convert.tflite_import.ops.tables import elements_of, put_table
from mlconv.formats.tflite_graph import Operator
from mlconv.formats.tflite_operators import known

_F = np.float32


@dataclass(frozen=True, slots=True)
class Chain:
    """What the last operator's output holds, by stored code of the first one's operand."""

    operators: tuple[Operator, ...]
    start: int
    end: int
    given: Codes
    table: np.ndarray

    def write(self, e: Emitter) -> None:
        put_table(e, self.start, self.end, self.table, given=self.given)


@dataclass(frozen=True, slots=True)
class _Values:
    """What a tensor holds for each of the 256 codes.

    Attributes:
        codes: How ``array`` is to be read; None where it holds float32 numbers.
        is_exact: Whether it is LiteRT's answer to the last bit.
        cost: Of what computes it, operator by operator.
    """

    array: np.ndarray
    codes: Codes | None
    is_exact: bool = True
    cost: float = 0.0


def chains(e: Emitter, operators: Sequence[Operator], outputs: Iterable[int]) -> dict[int, Chain | None]:
    """By operator index: the chain that ends there, or None for an operator inside of one, which is not written."""
    if not e.target.optimize:
        return {}
    uses = Counter([index for operator in operators for index in operator.inputs] + list(outputs))
    readers = {index: operator for operator in operators for index in operator.inputs}
    found: dict[int, Chain | None] = {}
    for operator in operators:
        if operator.index in found or operator.kind not in _KINDS:
            continue
        try:
            chain = _follow(e, operator, uses, readers)
        except (ArithmeticError, ValueError):  # scales beyond measure: the operators' own functions say so
            continue
        if chain is not None:
            found |= dict.fromkeys(member.index for member in chain.operators)
            found[chain.operators[-1].index] = chain
    return found


def _follow(e: Emitter, first: Operator, uses: Counter[int], readers: dict[int, Operator]) -> Chain | None:
    """The longest chain of two operators and more that begins with this one and pays."""
    start = _operand(e, first)
    given = None if start is None else _given(e, start)
    if start is None or given is None or e.tensor(start).is_variable:
        return None
    values = _Values(np.arange(256, dtype=np.uint8), given)
    operator, members, best = first, [first], None
    while len(members) <= _LONGEST:
        applied = _applied(e, operator, values)
        if applied is None:
            break
        values = applied
        end = operator.outputs[0]
        if (
            values.codes is not None
            and len(members) > 1
            and cost_of(values.array, given, values.codes) <= values.cost
        ):
            best = Chain(tuple(members), start, end, given, values.array)
        following = readers.get(end)
        if (
            uses[end] != 1
            or following is None
            or following.kind not in _KINDS
            or _operand(e, following) != end
        ):
            break
        operator = following
        members.append(operator)
    return best


def _operand(e: Emitter, operator: Operator) -> int | None:
    """The operand that is no constant, where there is one such."""
    entry = known(operator)
    if entry is None or operator.version > entry.versions or len(operator.outputs) != 1:
        return None
    computed = [index for index in operator.inputs if index < 0 or not e.tensor(index).is_constant]
    return computed[0] if len(computed) == 1 and computed[0] >= 0 else None


def _given(e: Emitter, index: int) -> Codes | None:
    """How the operand's codes are stored; plain uint8 numbers are codes of scale 1."""
    codes, tensor = e.codes(index), e.tensor(index)
    if codes is None and tensor.dtype == "uint8" and tensor.quantization is None:
        return RAW
    return codes if codes is not None and codes.dtype == "uint8" and 0 <= codes.zero_point <= 255 else None


def _applied(e: Emitter, operator: Operator, x: _Values) -> _Values | None:
    """What comes of ``x``; None where nobody can tell, or where the answer is not the same all over the tensor."""
    out = operator.outputs[0]
    made = e.codes(out)
    if (e.tensor(out).dtype != "float32") if made is None else (made.dtype != "uint8"):
        return None
    kind, codes = operator.kind, x.codes
    if kind == "CAST":
        return None if codes is None or made is not None else _numbers(x, codes.shift, _F(1))
    if codes is RAW:
        return None
    if kind in ("ADD", "SUB", "MUL"):
        return _with_constant(e, operator, x, made)
    if codes is None:
        return _real(operator, x) if made is None else _quantized(x, made) if kind == "QUANTIZE" else None
    if made is None:
        return _numbers(x, codes.zero_point, _F(codes.scale)) if kind == "DEQUANTIZE" else None
    if kind not in _TABLES:
        return None
    answers = _TABLES[kind](e, operator, codes, made)
    cost = COST if kind in ("LOGISTIC", "TANH") else cost_of(answers, codes, made)
    return _Values(answers[x.array], made, x.is_exact, x.cost + cost)


def _numbers(x: _Values, zero_point: int, scale: np.floating) -> _Values:
    return _Values(
        (x.array.astype(np.int64) - zero_point).astype(_F) * scale, None, x.is_exact, x.cost + COST
    )


def _quantized(x: _Values, made: Codes) -> _Values | None:
    steps = x.array * (_F(1) / _F(made.scale))
    near_tie = np.abs(np.abs(steps - np.rint(steps)) - 0.5) < _MARGIN
    if not np.all(np.isfinite(steps)) or (np.any(near_tie) and not x.is_exact):
        return None
    return _Values(
        np.clip(np.rint(steps) + made.zero_point, made.low, made.high).astype(np.uint8),
        made,
        True,
        x.cost + COST,
    )


def _with_constant(e: Emitter, operator: Operator, x: _Values, made: Codes | None) -> _Values | None:
    """An operand of constants that all lead to the same: most often there is one."""
    second = not e.tensor(operator.inputs[0]).is_constant
    index = operator.inputs[1 if second else 0]
    array, dims, codes = e.constant(index), e.tensor(operator.inputs[0 if second else 1]).dims, e.codes(index)
    if (
        array is None
        or dims is None
        or not array.size
        or (x.codes is None) != (made is None)
        or operator.activation not in ACTIVATION_RANGES
    ):
        return None
    if array.ndim > len(dims) or any(
        size not in (1, dim) for size, dim in zip(array.shape[::-1], dims[::-1], strict=False)
    ):
        return None
    distinct = np.unique(array)
    if len(distinct) > _DISTINCT or (made is None) != (codes is None):
        return None
    if made is None or x.codes is None or codes is None:
        answers = (
            [_arithmetic(operator, x.array, _F(number), second) for number in distinct]
            if distinct.dtype == _F
            else []
        )
    else:
        kernel = _kernel(operator, *((x.codes, codes) if second else (codes, x.codes)), made)
        if isinstance(kernel, (BuiltinSum, BuiltinProduct)) and kernel.overflows:
            return None
        own, others = (
            x.array - np.int64(x.codes.zero_point),
            distinct.astype(np.int64) + codes.shift - codes.zero_point,
        )
        sides = [
            (own, np.full_like(own, other)) if second else (np.full_like(own, other), own) for other in others
        ]
        low, high = made.clamp(operator.activation)
        answers = [
            np.clip(np.clip(kernel(*pair) + made.zero_point, made.low, made.high), low, high).astype(np.uint8)
            for pair in sides
        ]
    if not answers or any(not np.array_equal(answers[0], answer) for answer in answers[1:]):
        return None
    return _Values(answers[0], made, x.is_exact, x.cost + COST)


def _arithmetic(operator: Operator, x: np.ndarray, number: np.floating, second: bool) -> np.ndarray:
    function: np.ufunc = {"ADD": np.add, "SUB": np.subtract, "MUL": np.multiply}[operator.kind]
    low, high = ACTIVATION_RANGES[operator.activation]
    return np.asarray(np.clip(function(x, number) if second else function(number, x), _F(low), _F(high)))


def _kernel(operator: Operator, a: Codes, b: Codes, made: Codes) -> Kernel:
    return (
        product_kernel(a, b, made)
        if operator.kind == "MUL"
        else sum_kernel(a, b, made, -1 if operator.kind == "SUB" else 1)
    )


def _real(operator: Operator, x: _Values) -> _Values | None:
    if operator.kind not in _FUNCTIONS:
        return None
    with np.errstate(all="ignore"):
        if operator.kind in _EXACT:
            return _Values(_FUNCTIONS[operator.kind](x.array).astype(_F), None, x.is_exact, x.cost + COST)
        return _Values(
            _FUNCTIONS[operator.kind](x.array.astype(np.float64)).astype(_F), None, False, x.cost + COST
        )


_MARGIN = 1e-4
"""In codes: how far from a tie a function that LiteRT approximates must stay for its code to be certain."""
_DISTINCT, _LONGEST = 64, 32
"""Bounds on work: constants that are tried, and operators of a chain."""

_FUNCTIONS: MappingProxyType[str, tables.Function] = MappingProxyType({
    "RELU": lambda x: np.maximum(x, 0), "RELU6": lambda x: np.clip(x, 0, 6), "RELU_N1_TO_1": lambda x: np.clip(x, -1, 1),
    "RELU_0_TO_1": lambda x: np.clip(x, 0, 1), "ABS": np.abs, "NEG": np.negative, "SQUARE": np.square, "FLOOR": np.floor,
    "CEIL": np.ceil, "ROUND": np.rint, "SQRT": np.sqrt, "EXP": np.exp, "LOG": np.log, "LOGISTIC": tables.sigmoid, "TANH": np.tanh,
    "RSQRT": lambda x: 1 / np.sqrt(x),
})  # fmt: skip
_EXACT = frozenset(
    {"RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "ABS", "NEG", "SQUARE", "FLOOR", "CEIL", "ROUND"}
)

_Answers = Callable[[Emitter, Operator, Codes, Codes], np.ndarray]


def _table(function: Callable[[Codes, Codes], np.ndarray]) -> _Answers:
    return lambda _, __, x, y: function(x, y)


def _leaky_relu(_: Emitter, operator: Operator, x: Codes, y: Codes) -> np.ndarray:
    return tables.leaky_relu(x, y, float(operator.option("alpha", 0.0)))  # type: ignore[arg-type]


def _requantized(e: Emitter, operator: Operator, x: Codes, y: Codes) -> np.ndarray:
    most, last = tables.requantized(x, y)
    elements = elements_of(e.tensor(operator.inputs[0]).dims)
    if elements is None or elements % tables.REQUANTIZED_AT_ONCE == 0 or np.array_equal(most, last):
        return most
    if elements > tables.REQUANTIZED_AT_ONCE:
        raise ValueError("its last elements are rounded otherwise")
    return last


_TABLES: MappingProxyType[str, _Answers] = MappingProxyType({
    "LEAKY_RELU": _leaky_relu, "QUANTIZE": _requantized,
    **{kind: _table(unary.table) for kind, unary in {
        "RELU": activation.relu, "RELU6": activation.relu6, "RELU_N1_TO_1": activation.relu_n1_to_1, "RELU_0_TO_1": activation.relu_0_to_1,
        "ELU": activation.elu, "LOGISTIC": activation.logistic, "TANH": activation.tanh, "HARD_SWISH": activation.hard_swish,
        "EXP": activation.exp, "LOG": activation.log, "ABS": activation.absolute, "NEG": activation.neg, "SQRT": activation.sqrt,
        "RSQRT": activation.rsqrt,
    }.items() if unary.table is not None},
})  # fmt: skip

_KINDS = frozenset({*_TABLES, *_FUNCTIONS, "CAST", "DEQUANTIZE", "ADD", "SUB", "MUL"})
