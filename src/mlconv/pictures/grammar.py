"""The text of a PREPROCESS, and the words of what is none.

``resize=256,crop=224,letterbox,upright,order=BGR,scale=1/255,mean=.485:.456:.406,std=.229:.224:.225,layout=NHWC`` in any part,
with a preset (``imagenet``, ``0..1``, ``-1..1``, ``yolo``) for some of it, or ``file.py:callable`` instead.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import get_args

from mlconv.errors import BadPreprocess, nearest
from mlconv.pictures.preprocess import (
    CROP_SHARE,
    Crop,
    Filter,
    Layout,
    Letterbox,
    Number,
    Order,
    Preprocess,
    Resize,
    Size,
    show_number,
)

PRESETS: dict[str, str] = {
    "imagenet": "resize,crop,scale=1/255,mean=0.485:0.456:0.406,std=0.229:0.224:0.225",
    "0..1": "scale=1/255",
    "-1..1": "scale=1/127.5,mean=1",
    "yolo": "upright,letterbox,scale=1/255,order=RGB",
}
"""What each stands for; ``imagenet``'s sizes follow the input's: 256 and 224 for 224."""

_STAGES = ("resize", "crop", "letterbox", "upright", "order", "scale", "mean", "std", "layout")
_EXAMPLES = {
    "resize": "resize=256, resize=224x224 or resize=256:bicubic", "crop": "crop=224 or crop=224x192",
    "letterbox": "letterbox or letterbox=640", "upright": "upright", "order": "order=BGR", "scale": "scale=1/255",
    "mean": "mean=.485:.456:.406", "std": "std=.229:.224:.225", "layout": "layout=NHWC",
}  # fmt: skip
_GREATEST_SIDE = 1 << 16


def is_function(text: str) -> bool:
    """Whether a PREPROCESS or DATA names a callable of a file."""
    return re.fullmatch(r".+\.py:[^\W\d]\w*(\.[^\W\d]\w*)*", text) is not None


def parse(text: str) -> Preprocess:
    """Read a PREPROCESS.

    Raises:
        BadPreprocess: It is not of the grammar; the hint is what would be.
    """
    tokens = [token.strip() for token in text.split(",") if token.strip()]
    if is_function(text.strip()) and not any(map(_is_stage, tokens)):
        return Preprocess(text, function=text.strip())
    if not tokens:
        raise BadPreprocess(
            "--preprocess is empty", fix="--preprocess imagenet, or resize=224x224,scale=1/255"
        )
    presets = [token.lower() for token in tokens if token.lower() in PRESETS]
    if len(presets) > 1:
        raise BadPreprocess(f"--preprocess {text}: `{presets[0]}` and `{presets[1]}` are two presets",
                            fix=f"--preprocess {_once(tokens, set(PRESETS))}")  # fmt: skip
    given = [_split(token, tokens, text) for token in tokens if token.lower() not in PRESETS]
    for name, _ in given:
        if [other for other, _ in given].count(name) > 1:
            raise BadPreprocess(f"--preprocess {text}: `{name}` stands there twice",
                                fix=f"--preprocess {_once(tokens, {name})}")  # fmt: skip
    own = dict(given)
    base = [(name, value) for name, value in _preset(presets) if name not in own]
    found = _checked(_with_presets_sizes(_build(text, _merged(presets, base, given)), presets, own))
    _assert_plausible(found)
    return found


def _is_stage(token: str) -> bool:
    return token.partition("=")[0].strip().lower() in (*_STAGES, *PRESETS)


def _preset(presets: list[str]) -> list[tuple[str, str]]:
    told = PRESETS[presets[0]] if presets else ""
    return [(name, value) for name, _, value in (token.partition("=") for token in told.split(",")) if name]


def _merged(
    presets: list[str], base: list[tuple[str, str]], given: list[tuple[str, str]]
) -> list[tuple[str, str]]:
    """The preset's stages in their order, each replaced by the one that was written beside it; then the others."""
    own = dict(given)
    named = [name for name, _ in _preset(presets)]
    replaced = dict(base) | {name: value for name, value in given if name in named}
    return [(name, replaced[name]) for name in named] + [pair for pair in own.items() if pair[0] not in named]


def _with_presets_sizes(found: Preprocess, presets: list[str], own: dict[str, str]) -> Preprocess:
    """The size that ``imagenet`` leaves open follows its crop; a filter alone, ``resize=bicubic``, leaves it open too."""
    if "imagenet" not in presets:
        return found
    first = found.geometry[0]
    if not isinstance(first, Resize) or first.shorter or first.size or own.get("resize") == "":
        return found
    return replace(found, geometry=(replace(first, share=CROP_SHARE), *found.geometry[1:]))


def _split(token: str, tokens: list[str], text: str) -> tuple[str, str]:
    name, _, value = token.partition("=")
    name = name.strip().lower()
    if _NUMBER.fullmatch(name.strip("[]() ")) and not value:
        joined = re.sub(r",(?=[-+.\d/eE]+(,|$))", ":", re.sub(r"[\[\]() ]", "", text))
        raise BadPreprocess(f"--preprocess {text}: `{token}` is no stage", why="the values of a stage are separated by `:`",
                            fix=f"--preprocess {joined}")  # fmt: skip
    if name in _STAGES:
        return name, value.strip()
    if is_function(token):
        raise BadPreprocess(
            f"--preprocess {text}: `{token}` does all of it and stands alone", fix=f"--preprocess {token}"
        )
    close = nearest(name, (*_STAGES, *PRESETS), 1)
    better = close[0] + (f"={value}" if value and close[0] in _STAGES else "") if close else ""
    raise BadPreprocess(
        f"--preprocess {text}: there is no stage `{name}`",
        why=f"stages: {', '.join(_STAGES)}; presets: {', '.join(PRESETS)}; or file.py:callable",
        fix=f"--preprocess {','.join(better if other == token else other for other in tokens)}"
        if close else "--preprocess imagenet, or resize=224x224,scale=1/255",
    )  # fmt: skip


def _once(tokens: Iterable[str], names: set[str]) -> str:
    """The tokens with the first one alone of those that bear one of these names."""
    seen, kept = False, []
    for token in tokens:
        same = token.partition("=")[0].strip().lower() in names
        if not (same and seen):
            kept.append(token)
        seen |= same
    return ",".join(kept)


def _build(text: str, pairs: list[tuple[str, str]]) -> Preprocess:
    found = Preprocess(text)
    for name, value in pairs:
        match name:
            case "resize":
                found = replace(found, geometry=(*found.geometry, _resize(value, text)))
            case "crop":
                found = replace(found, geometry=(*found.geometry, Crop(_size(value, name, text))))
            case "letterbox":
                found = replace(found, geometry=(*found.geometry, Letterbox(_size(value, name, text))))
            case "upright":
                if value:
                    raise _bad(text, name, value, "it takes no value")
                found = replace(found, upright=True)
            case "order":
                found = replace(found, order=_order(value, text))
            case "layout":
                found = replace(found, layout=_layout(value, text))
            case "scale":
                found = replace(found, scale=_number(value, name, text))
            case "mean":
                found = replace(found, mean=_numbers(value, name, text))
            case _:
                found = replace(found, std=_numbers(value, name, text))
    return found


def _bad(
    text: str, name: str, value: str, why: str | None = None, better: str | None = None
) -> BadPreprocess:
    """Args: better: The value that was meant, where that can be told."""
    tokens = [token.strip() for token in text.split(",") if token.strip()]
    meant = [
        f"{name}={better}" if token.partition("=")[0].strip().lower() == name else token for token in tokens
    ]
    return BadPreprocess(
        f"--preprocess {text}: `{name}{'=' if value else ''}{value}` is not understood",
        why=why,
        fix=f"--preprocess {','.join(meant)}" if better else f"--preprocess with {_EXAMPLES[name]}",
    )


def _resize(value: str, text: str) -> Resize:
    parts = [part.strip().lower() for part in value.split(":") if part.strip()]
    words = [part for part in parts if part[0].isalpha()]
    sides = _sides(":".join(part for part in parts if part not in words), "resize", text)
    kinds = [word for word in words if word in get_args(Filter)]
    strange = [word for word in words if word not in (*kinds, "cover")]
    if strange or len(kinds) > 1 or len(sides) > 2 or ("cover" in words and len(sides) != 2):
        close = nearest(strange[0], get_args(Filter), 1) if strange else []
        better = ":".join([*("x".join(map(str, sides[:2])),), *close]) if close else None
        raise _bad(
            text, "resize", value,
            f"it takes one length, or HEIGHTxWIDTH, then a filter: {', '.join(get_args(Filter))}", better,
        )  # fmt: skip
    kind: Filter = kinds[0] if kinds else "bilinear"  # type: ignore[assignment]
    if len(sides) == 2:
        return Resize(size=(sides[0], sides[1]), filter=kind, cover="cover" in words)
    return Resize(shorter=sides[0] if sides else None, filter=kind)


def _size(value: str, name: str, text: str) -> Size | None:
    sides = _sides(value, name, text)
    if len(sides) > 2:
        raise _bad(text, name, value, "it takes one length, or HEIGHTxWIDTH")
    return (sides[0], sides[-1]) if sides else None


def _sides(value: str, name: str, text: str) -> list[int]:
    found = []
    for part in re.split(r"[x:]", value.lower()) if value else []:
        if not re.fullmatch(r"\s*[0-9]{1,6}\s*", part) or not 0 < int(part) <= _GREATEST_SIDE:
            raise _bad(text, name, value, f"`{part}` is no length in pixels, 1 to {_GREATEST_SIDE}")
        found.append(int(part))
    return found


def _order(value: str, text: str) -> Order:
    for known in get_args(Order):
        if value.upper() == known:
            return known  # type: ignore[no-any-return]
    gray = value.lower() in ("l", "grayscale", "greyscale", "grey", "y", "mono")
    close = ["GRAY"] if gray else nearest(value.upper(), get_args(Order), 1)
    raise _bad(text, "order", value, "there are RGB, BGR and GRAY", close[0] if close else None)


def _layout(value: str, text: str) -> Layout:
    for known in get_args(Layout):
        if value.upper() == known:
            return known  # type: ignore[no-any-return]
    close = nearest(value.upper(), get_args(Layout), 1)
    raise _bad(text, "layout", value, "there are NHWC and NCHW", close[0] if close else None)


_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)


def _number(value: str, name: str, text: str) -> Number:
    parts = [part.strip() for part in value.split("/")]
    if len(parts) > 2 or not all(_NUMBER.fullmatch(part) for part in parts):
        raise _bad(
            text, name, value, f"`{value}` is no number and no fraction" if value else "it has no value"
        )
    found = Number(*map(float, parts))
    if not found.denominator or not all(map(math.isfinite, (*map(float, parts), found.value))):
        raise _bad(text, name, value, f"`{value}` is not finite")
    if name in ("scale", "std") and not found.value > 0:
        raise _bad(text, name, value, f"`{value}` is not above 0")
    return found


def _numbers(value: str, name: str, text: str) -> tuple[Number, ...]:
    found = tuple(_number(part.strip(), name, text) for part in value.split(":"))
    if len(found) not in (1, 3):
        raise _bad(
            text, name, value, f"it takes one value, or one for each of three channels, not {len(found)}"
        )
    return found


def _checked(found: Preprocess) -> Preprocess:
    """Raises: BadPreprocess: Two stages contradict each other."""
    for name, values in (("mean", found.mean), ("std", found.std)):
        if found.order == "GRAY" and len(values) == 3:
            raise BadPreprocess(f"--preprocess {found.text}: `{name}` has three values, and GRAY is one channel",
                                fix=f"{name} with one value, or another order")  # fmt: skip
    return found


def _assert_plausible(found: Preprocess) -> None:
    """Mean and std of 0..255 after a scale to 0..1, or the other way round, are a slip that no figure would show.

    Raises:
        BadPreprocess: No pixel can be near the mean, or pixels of 0..255 are divided by a std below 1.
    """
    scale = found.scale.value if found.scale else 1.0
    if any(not -1e-6 <= mean.value <= 255 * scale * (1 + 1e-6) for mean in found.mean):
        scaled = all(0 <= mean.value <= 255 for mean in found.mean)
        better = replace(found, mean=_times(found.mean, scale), std=_times(found.std, scale))
        raise BadPreprocess(
            f"--preprocess {found.text}: the mean {':'.join(map(str, found.mean))} lies outside the pixels, "
            f"which are 0..{show_number(255 * scale)}{' after scale' if found.scale else ''}",
            why="mean and std are taken after scale",
            fix=f"--preprocess {','.join(better.stages())}" if scaled else "--preprocess with a mean between these",
        )  # fmt: skip
    if found.scale is None and found.std and all(std.value < 1 for std in found.std):
        better = replace(found, scale=Number(1.0, 255.0))
        raise BadPreprocess(
            f"--preprocess {found.text}: a std below 1 is of pixels 0..1, and without scale they are 0..255",
            fix=f"--preprocess {','.join(better.stages())}",
        )


def _times(values: tuple[Number, ...], scale: float) -> tuple[Number, ...]:
    return tuple(Number(float(f"{number.value * scale:.6g}")) for number in values)
