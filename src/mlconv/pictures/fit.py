"""A PREPROCESS against one input: which axes are height, width and channels, and every size that was left open."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from mlconv.errors import BadPreprocess
from mlconv.pictures.preprocess import (
    CROP_DEFAULT,
    Crop,
    Geometry,
    Letterbox,
    Preprocess,
    Resize,
    Size,
    show_size,
)
from mlconv.tensors import Axis, Dim, TensorSpec, show_shape, typed

Axes = Literal["NCHW", "NHWC", "CHW", "HWC", "NHW", "HW"]
"""What the axes of an input are; without C the pictures are gray, without N one picture is one sample."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A PREPROCESS with nothing left open.

    Attributes:
        spec: The input that the pictures feed.
        axes: What its axes are.
        preprocess: With sizes, order and layout as they are for this input.
        takes_pixels: The input is fed whole pixels 0..255, not real numbers.
    """

    spec: TensorSpec
    axes: Axes
    preprocess: Preprocess
    takes_pixels: bool

    @property
    def batch(self) -> Dim:
        """The size of the batch axis, or its name; 1 where there is none."""
        return self._dim("N") if "N" in self.axes else 1

    @property
    def height(self) -> Dim:
        return self._dim("H")

    @property
    def width(self) -> Dim:
        return self._dim("W")

    @property
    def channels(self) -> int:
        return 1 if self.preprocess.order == "GRAY" else 3

    def _dim(self, axis: str) -> Dim:
        assert self.spec.shape is not None
        return self.spec.shape[self.axes.index(axis)]

    def sizes(self, height: int, width: int) -> dict[str, int]:
        """The sizes that the dynamic axes take for a picture of this size."""
        return {
            dim: size for dim, size in ((self.height, height), (self.width, width)) if isinstance(dim, str)
        }

    def of_one_size(self, size: Size) -> str:
        """A PREPROCESS as this one whose pictures all have that size."""
        return ",".join(_giving(self.preprocess, (None, None), size).stages())

    def assert_takes(self, size: Size, picture: str, own: Size, axes: Mapping[str, Axis]) -> None:
        """Hold the size of a picture against the input.

        Args:
            size: After every stage.
            picture: The file's name.
            own: The picture's own size.

        Raises:
            BadPreprocess: The input takes another one.
        """
        wanted = (self.height, self.width)
        if any(isinstance(dim, int) and dim != length for dim, length in zip(wanted, size, strict=True)):
            after = (
                f", {show_size(size)} after {self.preprocess.geometry[-1]}"
                if self.preprocess.geometry
                else ""
            )
            raise BadPreprocess(
                f"`{picture}` is {show_size(own)} (height x width){after}, and input `{self.spec.name}` takes "
                f"{'x'.join('?' if dim is None else str(dim) for dim in wanted)}",
                why="a picture is stretched or cut only where a stage says so",
                fix=f"--preprocess {','.join(_giving(self.preprocess, wanted, size).stages())}",
            )
        if self.height is not None and self.height == self.width and size[0] != size[1]:
            raise BadPreprocess(
                f"`{picture}` is {show_size(size)} (height x width), and both sides of input `{self.spec.name}` are `{self.height}`",
                fix=f"--preprocess {','.join(_giving(self.preprocess, wanted, (min(size), min(size))).stages())}",
            )
        for dim, length in zip(wanted, size, strict=True):
            axis = axes.get(dim) if isinstance(dim, str) else None
            if axis and not (
                axis.low <= length <= (axis.high or length) and (length - axis.low) % axis.step == 0
            ):
                told = f"{axis.low}..{axis.high or ''}" + (
                    f" in steps of {axis.step}" if axis.step > 1 else ""
                )
                near = max(axis.low, min(length, axis.high or length))
                near -= (near - axis.low) % axis.step
                raise BadPreprocess(
                    f"`{picture}` is {show_size(size)} (height x width), and axis `{dim}` of `{self.spec.name}` takes {told}",
                    fix=f"--preprocess {','.join(_giving(self.preprocess, (near, near), (near, near)).stages())}",
                )


def fit(preprocess: Preprocess, spec: TensorSpec) -> Fitted:
    """What a PREPROCESS comes to for an input.

    Raises:
        BadPreprocess: Its axes cannot be told, or the stages give another size, number of channels or kind of numbers.
    """
    if not spec.dtype.startswith(("float", "bfloat", "int", "uint")):
        raise BadPreprocess(f"input `{spec.name}` is {spec.dtype}, which is no kind of picture",
                            fix="--data FILE.npz or FILE.py:CALLABLE with what it takes")  # fmt: skip
    axes = _axes(preprocess, spec)
    order = preprocess.order or ("GRAY" if _channels(axes, spec) == 1 else "RGB")
    whole = replace(
        preprocess, order=order, layout="NHWC" if axes in ("NHWC", "HWC") else "NCHW" if "C" in axes else None
    )
    fitted = Fitted(spec, axes, whole, _takes_pixels(preprocess, spec))
    size = (fitted.height, fitted.width)
    fitted = replace(fitted, preprocess=replace(whole, geometry=_resolved(whole, size, spec)))
    _assert_size(fitted)
    return fitted


# ------------------------------------------------------------------ axes


def _axes(preprocess: Preprocess, spec: TensorSpec) -> Axes:
    shape = spec.shape
    if shape is None:
        raise BadPreprocess(f"nothing tells how many axes input `{spec.name}` has",
                            fix=f"{typed(spec.name, '1,3,224,224')} with its shape")  # fmt: skip
    wanted = _wanted_channels(preprocess)
    found = [
        axes for axes in _CANDIDATES.get(len(shape), ()) if _fits(axes, shape, wanted, preprocess.layout)
    ]
    if not found:
        raise _no_picture(preprocess, spec, wanted)
    if found[:2] == ["NCHW", "NHWC"] or {"HWC", "CHW"} <= set(found):
        told = [stage for stage in preprocess.stages() if not stage.startswith("layout=")]
        raise BadPreprocess(
            f"input `{spec.name}` is {show_shape(shape)}: either its {'second' if len(shape) == 4 else 'first'} or its last axis may be the channels",
            fix=f"--preprocess {','.join([*told, 'layout=NHWC'])}, or layout=NCHW",
        )
    return found[0]


_CANDIDATES: dict[int, tuple[Axes, ...]] = {
    4: ("NCHW", "NHWC"),
    3: ("HWC", "NHW", "CHW"),
    2: ("HW",),
}


def _fits(axes: Axes, shape: tuple[Dim, ...], wanted: frozenset[int], layout: str | None) -> bool:
    """Whether an input's axes can be these; a dynamic axis is one of channels only where the layout is given."""
    if "C" not in axes:
        return (
            1 in wanted
            and layout is None
            and (axes == "HW" or not isinstance(shape[0], int) or shape[0] != 3 or wanted == {1})
        )
    if layout is not None and layout != ("NHWC" if axes in ("NHWC", "HWC") else "NCHW"):
        return False
    channels = shape[axes.index("C")]
    if 0 in shape:
        return False
    return channels in wanted if isinstance(channels, int) else layout is not None


def _wanted_channels(preprocess: Preprocess) -> frozenset[int]:
    if preprocess.order == "GRAY":
        return frozenset({1})
    coloured = preprocess.order is not None or 3 in (len(preprocess.mean), len(preprocess.std))
    return frozenset({3}) if coloured else frozenset({1, 3})


def _channels(axes: Axes, spec: TensorSpec) -> int:
    if "C" not in axes or spec.shape is None:
        return 1
    dim = spec.shape[axes.index("C")]
    return dim if isinstance(dim, int) else 3


def _no_picture(preprocess: Preprocess, spec: TensorSpec, wanted: frozenset[int]) -> BadPreprocess:
    assert spec.shape is not None
    shape = show_shape(spec.shape)
    other = _wanted_channels(replace(preprocess, order=None, mean=(), std=())) - wanted
    loose = replace(preprocess, layout=None)
    if preprocess.layout and any(
        _fits(axes, spec.shape, wanted, None) for axes in _CANDIDATES.get(len(spec.shape), ())
    ):
        return BadPreprocess(f"--preprocess {preprocess.text}: input `{spec.name}` is {shape}, which is not {preprocess.layout}",
                             fix=f"--preprocess {','.join(loose.stages()) or 'resize'}")  # fmt: skip
    if any(
        _fits(axes, spec.shape, frozenset(other), preprocess.layout)
        for axes in _CANDIDATES.get(len(spec.shape), ())
    ):
        given = "three channels" if wanted == {3} else "one channel"
        keep = replace(preprocess, order=None, mean=preprocess.mean if len(preprocess.mean) == 1 else (),
                       std=preprocess.std if len(preprocess.std) == 1 else ())  # fmt: skip
        return BadPreprocess(f"--preprocess {preprocess.text} gives {given}, and input `{spec.name}` is {shape}",
                             fix=f"--preprocess {','.join(keep.stages()) or '0..1'}, with mean and std as the model was trained")  # fmt: skip
    dynamic = any(not isinstance(dim, int) for dim in spec.shape[1:]) and len(spec.shape) in (3, 4)
    if dynamic and preprocess.layout is None:
        told = ",".join((*preprocess.stages(), "layout=NCHW"))
        return BadPreprocess(f"nothing tells which axis of input `{spec.name}`, {shape}, is the channels",
                             fix=f"--preprocess {told}, or layout=NHWC")  # fmt: skip
    return BadPreprocess(
        f"input `{spec.name}` is {shape}, which is no picture of {' or '.join(map(str, sorted(wanted)))} channels",
        why="stages give height, width and 1 or 3 channels",
        fix="--preprocess FILE.py:CALLABLE that takes a PIL picture and returns an array of that shape",
    )  # fmt: skip


# ------------------------------------------------------------------ numbers


def _takes_pixels(preprocess: Preprocess, spec: TensorSpec) -> bool:
    """A uint8 input takes pixels unless the stages make real numbers, which its quantization then maps."""
    return spec.dtype == "uint8" and preprocess.is_raw


def integer_range(dtype: str) -> tuple[int, int]:
    """The least and the greatest integer of ``int8``, ``uint4`` and the like."""
    match = re.fullmatch(r"(u?)int(\d+)", dtype)
    assert match is not None
    bits = int(match[2])
    return (0, (1 << bits) - 1) if match[1] else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


# ------------------------------------------------------------------ sizes


def _resolved(preprocess: Preprocess, size: tuple[Dim, Dim], spec: TensorSpec) -> tuple[Geometry, ...]:
    """Every size that was left open is the input's.

    Raises:
        BadPreprocess: The input's is open too.
    """
    height, width = size
    own = (height, width) if isinstance(height, int) and isinstance(width, int) else None
    geometry = preprocess.geometry
    found: list[Geometry] = []
    for number, stage in enumerate(geometry):
        if isinstance(stage, Resize) and stage.share is not None:
            found.append(_shared(stage, geometry[number + 1 :], own))
        elif stage.size is not None or (isinstance(stage, Resize) and stage.shorter is not None):
            found.append(stage)
        elif own is not None:
            found.append(replace(stage, size=own))
        elif isinstance(stage, Crop) and any(isinstance(other, Resize) and other.share for other in geometry):
            found.append(Crop((CROP_DEFAULT, CROP_DEFAULT)))
        else:
            usual = 640 if isinstance(stage, Letterbox) else CROP_DEFAULT
            better = tuple(
                replace(other, size=(usual, usual)) if other is stage else other for other in geometry
            )
            raise BadPreprocess(
                f"`{stage}` takes the size of input `{spec.name}`, and that is dynamic: {show_shape(spec.shape)}",
                fix=f"--preprocess {','.join(replace(preprocess, geometry=better).stages())}, or the size that it was trained with",
            )
    return tuple(found)


def _shared(stage: Resize, later: tuple[Geometry, ...], own: Size | None) -> Resize:
    """As timm.data.transforms_imagenet_eval: the shorter side for a square crop, else what covers both."""
    crops = [other.size for other in later if isinstance(other, Crop) and other.size]
    height, width = crops[0] if crops else own or (CROP_DEFAULT, CROP_DEFAULT)
    assert stage.share is not None
    around = (math.floor(height / stage.share), math.floor(width / stage.share))
    if height == width:
        return Resize(shorter=around[0], filter=stage.filter)
    return Resize(size=around, filter=stage.filter, cover=True)


def _assert_size(fitted: Fitted) -> None:
    """Raises: BadPreprocess: The last stage gives a size that the input does not take."""
    last = fitted.preprocess.geometry[-1] if fitted.preprocess.geometry else None
    given = None if last is None or (isinstance(last, Resize) and last.cover) else last.size
    wanted = (fitted.height, fitted.width)
    if given and any(
        isinstance(dim, int) and dim != length for dim, length in zip(wanted, given, strict=True)
    ):
        raise BadPreprocess(
            f"`{last}` gives pictures of {show_size(given)} (height x width), and input `{fitted.spec.name}` is "
            f"{show_shape(fitted.spec.shape)}",
            fix=f"--preprocess {','.join(_giving(fitted.preprocess, wanted, given).stages())}",
        )


def _giving(preprocess: Preprocess, wanted: tuple[Dim, Dim], size: Size) -> Preprocess:
    """The same with a last stage that gives the size that is wanted; ``size``: what dynamic sides take."""
    height, width = (
        dim if isinstance(dim, int) else length for dim, length in zip(wanted, size, strict=True)
    )
    own = (height, width)
    stages = preprocess.geometry
    last = stages[-1] if stages else None
    is_cropped = any(isinstance(stage, Crop) for stage in stages)
    if isinstance(last, Resize) and (last.shorter or last.cover) and not is_cropped:
        around = max(height, width) if last.cover or (last.shorter or 0) < max(own) else last.shorter
        return replace(
            preprocess, geometry=(*stages[:-1], Resize(shorter=around, filter=last.filter), Crop(own))
        )
    changed: Geometry = Resize(size=own, filter=last.filter) if isinstance(last, Resize) else Resize(size=own)
    if isinstance(last, Crop | Letterbox):
        changed = replace(last, size=own)
    return replace(preprocess, geometry=(*stages[:-1], changed))
