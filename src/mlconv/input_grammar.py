"""The grammar of `--input [NAME=]DIM,DIM,...[:DTYPE[LO..HI]]`, and what to type where a text is not of it.

DIM is a size, a word (a dynamic axis of that name), ``word=LO..HI/STEP@DEFAULT`` (a range; sizes are multiples of STEP),
or ``?`` (a dynamic axis without a name; ``-1`` and ``None`` mean the same). All of it is ``scalar`` for no axes.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace

from mlconv.errors import BadInputOption, nearest
from mlconv.tensors import DTYPES, Axis, InputOption, limits_of, typed, values_fault

_MOST = 2**31 - 1  # sizes of runtimes are 32 bits wide in places, and no machine holds such a tensor
_WORD = r"[A-Za-z_]\w*"
_RANGE = re.compile(
    rf"(?P<name>{_WORD})\s*=\s*(?P<low>\d+)\s*\.\.\s*(?P<high>\d+)(?:\s*/\s*(?P<step>\d+))?(?:\s*@\s*(?P<default>\d+))?"
)
_NUMBER = r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_DTYPE = re.compile(rf"(?P<dtype>\w+)?\s*(?:\[\s*(?P<low>{_NUMBER})\s*\.\.\s*(?P<high>{_NUMBER})\s*\])?")
_NAMELESS = ("?", "-1", "None")

_ALIASES = {
    "float": "float32", "fp32": "float32", "f32": "float32", "single": "float32", "double": "float64", "fp64": "float64",
    "f64": "float64", "half": "float16", "fp16": "float16", "f16": "float16", "bf16": "bfloat16", "int": "int64",
    "long": "int64", "i64": "int64", "short": "int16", "i32": "int32", "i8": "int8", "u8": "uint8", "byte": "uint8",
    "char": "int8", "boolean": "bool", "string": "str",
}  # fmt: skip
"""What other tools call a dtype: a suggestion, since ``int`` is 32 bits here and 64 there."""


def parse_inputs(texts: Sequence[str]) -> tuple[InputOption, ...]:
    """All values of `--input`: those that name the same input are the enumerated shapes of one option.

    Raises:
        BadInputOption: One is not of the grammar, or two of them contradict each other.
    """
    merged: dict[str | int, list[tuple[str, InputOption]]] = {}
    for number, text in enumerate(texts):
        option = parse_input(text)
        key = number if option.name is None else option.name.removesuffix(":0")
        merged.setdefault(key, []).append((text, option))
    _assert_same_ranges([option for group in merged.values() for _, option in group])
    _assert_as_many_shapes(merged)
    names: dict[tuple[int, ...], str] = {}
    return tuple(_merged(group, names) for group in merged.values())


def parse_input(text: str) -> InputOption:
    """One value of `--input`.

    Raises:
        BadInputOption: It is not of the grammar; the hint is a text near it that is, where there is one.
    """
    try:
        return _parse(text)
    except ValueError as error:
        raise BadInputOption(f"--input {text}: {error}", fix=_fix(text)) from error


def _parse(text: str) -> InputOption:
    name, shape, rest = _split(text)
    if name == "":
        raise ValueError("there is no name before `=`")
    if not shape:
        raise ValueError("it has no shape")
    dims = () if shape == "scalar" else tuple(_dim(part.strip()) for part in shape.split(","))
    if rest is None:
        return InputOption(name, dims)
    match = _DTYPE.fullmatch(rest)
    if match is None or not rest:
        raise ValueError(
            f"`{rest}` is not a dtype with an optional range of values, as in float32 or int64[0..999]"
        )
    dtype = match["dtype"]
    if dtype is not None and dtype not in DTYPES:
        near = _near_dtype(dtype)
        raise ValueError(
            f"`{dtype}` is not a dtype" + (f"; `{near}` is" if near else f"; these are: {', '.join(DTYPES)}")
        )
    return InputOption(name, dims, dtype, _values(match["low"], match["high"], dtype))


def _split(text: str) -> tuple[str | None, str, str | None]:
    """Name, shape and the part after the colon. A name may itself hold a colon (`serving_default_x:0=1,4`)."""
    name: str | None = None
    head, equals, tail = text.partition("=")
    if equals and "," not in head and not _RANGE.match(text.strip()):
        name, text = head.strip(), tail
    shape, colon, rest = text.partition(":")
    return name, shape.strip(), rest.strip() if colon else None


def _dim(part: str) -> int | Axis:
    if part in _NAMELESS:
        return Axis("")
    if re.fullmatch(r"\d+", part, re.ASCII):
        if int(part) > _MOST:
            raise ValueError(f"no tensor has an axis of {part}")
        return int(part)
    if re.fullmatch(_WORD, part):
        return Axis(part)
    match = _RANGE.fullmatch(part)
    if match is None:
        told = f"`{part}`" if part else "nothing between two commas, or at an end,"
        raise ValueError(
            f"{told} is neither a size, nor the name of an axis, nor a range such as batch=1..8@2"
        )
    return _range(match, part)


def _range(match: re.Match[str], part: str) -> Axis:
    low, high, step = int(match["low"]), int(match["high"]), int(match["step"] or 1)
    default = int(match["default"]) if match["default"] else None
    if low > high:
        raise ValueError(f"the range `{part}` is empty: {low} is above {high}")
    if step < 1:
        raise ValueError(f"the range `{part}` has no step: it is 1 or more")
    least, greatest = -(-low // step) * step, high // step * step
    if least > greatest:
        raise ValueError(f"the range `{part}` holds no multiple of {step}")
    if default is not None and not least <= default <= greatest:
        raise ValueError(f"the range `{part}` leaves out its default, {default}")
    if default is not None and default % step:
        raise ValueError(f"the default of `{part}`, {default}, is no multiple of {step}")
    if greatest > _MOST:
        raise ValueError(f"no tensor has an axis of {greatest}")
    return Axis(match["name"], least, greatest, step, default)


def _values(low: str | None, high: str | None, dtype: str | None) -> tuple[float, float] | None:
    if low is None or high is None:
        return None
    values = float(low), float(high)
    if values[0] > values[1]:
        raise ValueError(f"the range of values {low}..{high} is empty: {low} is above {high}")
    fault = values_fault(values, dtype) if dtype is not None else None
    if fault is not None:
        raise ValueError(f"it draws values from {low}..{high}, and {fault}")
    return values


# ------------------------------------------------------------------ enumerated shapes


def _assert_same_ranges(options: Sequence[InputOption]) -> None:
    """A name stands for one axis wherever it is, so that its range is one."""
    ranged: dict[str, Axis] = {}
    for axis in (
        dim for option in options for dim in option.dims if isinstance(dim, Axis) and dim.high is not None
    ):
        other = ranged.setdefault(axis.name, axis)
        if other != axis:
            raise BadInputOption(
                f"--input gives the axis `{axis.name}` two ranges: {other.show()} and {axis.show()}",
                why="a name stands for one axis, whichever input it is in", fix=f"write {other.show()} both times, or call one of them {axis.name}2",
            )  # fmt: skip


def _assert_as_many_shapes(merged: dict[str | int, list[tuple[str, InputOption]]]) -> None:
    """Shapes of several inputs go together, the first with the first."""
    counts = {key: len(group) for key, group in merged.items() if len(group) > 1}
    if len(set(counts.values())) > 1:
        told = " and ".join(f"{count} shapes of `{key}`" for key, count in counts.items())
        few = min(counts, key=lambda key: counts[key])
        raise BadInputOption(
            f"--input enumerates {told}", why="they are taken together: the first with the first, and so on",
            fix=f"give `{few}` as many shapes, in the same order; one may stand there twice",
        )  # fmt: skip


def _merged(group: Sequence[tuple[str, InputOption]], names: dict[tuple[int, ...], str]) -> InputOption:
    """One option of all that name an input.

    Args:
        names: Of the axes whose sizes over the shapes are these; what is the same in all shapes is one axis.
    """
    first = group[0][1]
    if len(group) == 1:
        return first
    for text, option in group[1:]:
        if len(option.dims) != len(first.dims):
            raise BadInputOption(
                f"--input {text}: enumerated shapes have as many axes each, and the first of `{first.name}` has {len(first.dims)}",
                fix=f"give `{first.name}` shapes of {len(first.dims)} axes",
            )
        for what, ours, theirs in (
            ("dtypes", first.dtype, option.dtype),
            ("ranges of values", first.values, option.values),
        ):
            if ours is not None and theirs is not None and ours != theirs:
                raise BadInputOption(f"--input gives `{first.name}` two {what}: {ours} and {theirs}",
                                     fix="give one of them, at the first shape")  # fmt: skip
    dims = tuple(
        _enumerated(first, number, [option.dims[number] for _, option in group], names)
        for number in range(len(first.dims))
    )
    dtype = next((option.dtype for _, option in group if option.dtype), None)
    values = next((option.values for _, option in group if option.values), None)
    shapes = tuple(tuple(dim for dim in option.dims if isinstance(dim, int)) for _, option in group)
    if len(set(shapes)) == 1 and not any(isinstance(dim, Axis) for dim in dims):
        shapes = ()
    return replace(first, dims=dims, dtype=dtype, values=values, shapes=shapes)


def _enumerated(
    option: InputOption, number: int, dims: Sequence[int | Axis], names: dict[tuple[int, ...], str]
) -> int | Axis:
    sizes = [dim for dim in dims if isinstance(dim, int)]
    if len(sizes) < len(dims):
        raise BadInputOption(
            f"--input names `{option.name}` {len(dims)} times, and axis {number} of it is no number",
            why="enumerated shapes are of numbers alone; a named axis takes any size and is given once",
            fix=f"{typed(str(option.name), '...')} once, with a name or a range for each axis that varies",
        )
    if len(set(sizes)) == 1:
        return sizes[0]
    key = tuple(sizes)
    if key not in names:
        word = re.sub(r"\W", "_", (option.name or "").removesuffix(":0"))
        wish = "batch" if number == 0 else f"{word}_{number}"
        names[key] = wish if wish not in names.values() else f"{word}_{number}_"
    return Axis(names[key], min(sizes), max(sizes), 1, sizes[0], key)


# ------------------------------------------------------------------ what to type instead


def _fix(text: str) -> str:
    """The nearest text that is of the grammar, as it is typed; else how one looks."""
    for mended in _mended(text):
        try:
            _parse(mended)
        except ValueError:
            continue
        return f"--input {shlex.quote(mended)}"
    name = _split(text)[0]
    return f"{typed(name or 'NAME', '1,3,224,224')} or {typed(name or 'NAME', 'batch,3,224,224:float32')}"


def _mended(text: str) -> Iterator[str]:
    """Texts of the grammar that the user may have meant, the likeliest first."""
    text = re.sub(rf"(={_WORD}=\d+)\s*(?::|to)\s*(\d+)", r"\1..\2", text.strip().rstrip(":"))
    colon = re.fullmatch(
        r"([^\s=\[(]+?)\s*:\s*([\[(]?\s*-?\d.*)", text
    )  # NAME:1x3x224x224, as other tools take it
    if colon and "=" not in text:
        text = f"{colon[1]}={colon[2]}"
    name, shape, rest = _split_loosely(text)
    prefix = "" if name is None else f"{name}="
    whole = f"{prefix}{_mended_shape(shape)}"
    if rest is not None:
        dtype = _mended_dtype(rest)
        if dtype:
            yield f"{whole}:{dtype}"
        return
    yield whole


def _split_loosely(text: str) -> tuple[str | None, str, str | None]:
    """As ``_split``; a colon in a range of sizes (``n=1:8``) or in values (``int64[0:9]``) ends no shape."""
    name, shape, rest = _split(text)
    if name is not None and re.match(r"\d+\s*(-|\.\.\.?|:|to)\s*\d+", text.partition("=")[2].strip()):
        behind = text.partition("=")[2]
        if "," not in behind.partition(":")[0] and re.fullmatch(_WORD, name):
            name, text = None, re.sub(r"(=\s*\d+)\s*(?:-|\.\.\.|:|to)\s*(\d+)", r"\1..\2", text, count=1)
            shape, colon, rest = text.partition(":")
            return name, shape.strip(), rest.strip() if colon else None
    return name, shape, rest


def _mended_shape(shape: str) -> str:
    shape = re.sub(r"\s+[x\u00d7*]\s+", ",", shape.strip().strip("[](){}").strip())
    if re.fullmatch(r"[\w?.=/@-]+([x\u00d7*;]\s*[\w?.=/@-]+)+", shape) and re.match(
        r"(-?\d+|\?|[A-Za-z_]+)[x\u00d7*;]", shape
    ):
        shape = re.sub(r"(?<=[\d?\w])\s*[x\u00d7*;]\s*(?=[-\d?])", ",", shape)
    if "," not in shape:
        shape = re.sub(r"\s+", ",", shape)
    parts = [part.strip() for part in shape.split(",")]
    while len(parts) > 1 and not parts[-1]:
        parts.pop()
    return ",".join(_mended_dim(part, number) for number, part in enumerate(parts))


def _mended_dim(part: str, number: int) -> str:
    word = "batch" if number == 0 else f"axis{number}"
    if re.fullmatch(r"-\d+|\*|\.\.\.?|any|dynamic|none|NONE|null", part):
        return word
    if re.fullmatch(r"\d+\s*\.\.\s*\d+.*", part):
        part = f"{word}={part}"
    part = re.sub(r"=\s*(\d+)\s*(?:-|\.\.\.|:|to)\s*(\d+)", r"=\1..\2", part)
    if (match := _RANGE.fullmatch(part)) is not None:
        return _mended_range(match)
    return re.sub(r"\W", "_", part) if re.fullmatch(r"[A-Za-z_][\w-]*", part) else part


def _mended_range(match: re.Match[str]) -> str:
    low, high = sorted((int(match["low"]), int(match["high"])))
    step = max(int(match["step"] or 1), 1)
    if -(-low // step) * step > high // step * step:
        step = 1
    default = int(match["default"]) if match["default"] else None
    fits = default is None or (low <= default <= high and default % step == 0)
    kept = f"@{default}" if default is not None and fits else ""
    return f"{match['name']}={low}..{high}" + (f"/{step}" if step > 1 else "") + kept


def _mended_dtype(rest: str) -> str | None:
    """DTYPE[LO..HI] of what stands behind the colon; None where it is none of both."""
    match = re.fullmatch(
        rf"([\w.]*)\s*(?:[\[(<{{]?\s*({_NUMBER})\s*(?:\.\.\.?|,|:|-|to|;)\s*({_NUMBER})\s*[\])>}}]?)?",
        rest.strip(),
    )
    if match is None:
        return None
    dtype = match[1] if match[1] in DTYPES else _near_dtype(match[1]) if match[1] else ""
    if dtype is None:
        return None
    if match[2] is None:
        return dtype
    low, high = sorted((match[2], match[3]), key=float)
    limits = limits_of(dtype)
    if limits is None:
        return f"{dtype}[{low}..{high}]" if not dtype or "float" in dtype else dtype
    least, greatest = (min(max(round(float(end)), limits[0]), limits[1]) for end in (low, high))
    return f"{dtype}[{least}..{greatest}]"


def _near_dtype(word: str) -> str | None:
    """The dtype that another tool calls so, or that is spelled like it."""
    plain = word.lower().rpartition(".")[2]
    for known in (_ALIASES.get(plain, plain), _ALIASES.get(plain.removesuffix("tensor"), "")):
        if known in DTYPES:
            return known
    return next(iter(nearest(plain, DTYPES, 1)), None)
