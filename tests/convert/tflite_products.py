"""TFLite files of one convolution or matrix product, drawn at random."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from tflite_models import Put, one_operator


@dataclass(frozen=True)
class Made:
    """A file, and inputs for it."""

    path: Path
    feeds: list[np.ndarray]


@dataclass
class Drawn:
    """Numbers for one operator, drawn from a seed.

    Attributes:
        kind: INT8 or UINT8, of activations.
    """

    seed: int
    kind: str
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def codes(self, *shape: int, least: int = -128) -> np.ndarray:
        """Any codes of the type; ``least`` of int8."""
        if self.kind == "INT8":
            return self.rng.integers(least, 128, shape).astype(np.int8)
        return self.rng.integers(0, 256, shape).astype(np.uint8)

    def one_of(self, *values: Any) -> Any:
        return values[self.rng.integers(len(values))]

    def zero_point(self) -> int:
        """At the ends, in the middle, and beside it."""
        return int(self.one_of(-128, 0, 5, 127)) + (128 if self.kind == "UINT8" else 0)

    def weights_scale(self, outputs: int, *, per_axis: bool) -> np.ndarray:
        return self.rng.uniform(0.001, 0.02, outputs if per_axis else ()).astype(np.float32)

    def bias(self, outputs: int) -> np.ndarray:
        return self.rng.integers(-2000, 2000, outputs).astype(np.int32)

    def output_scale(self, input_scale: float, scale: np.ndarray, terms: int) -> float:
        """So that sums fill the codes, and leave them sometimes."""
        return float(np.mean(scale) * input_scale * np.sqrt(terms) * self.one_of(20, 60, 150))


def size(given: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    """Of a convolution's output; ``padding`` 0 is SAME, 1 VALID."""
    return -(-given // stride) if padding == 0 else -(-(given - (kernel - 1) * dilation) // stride)


def packed(weights: np.ndarray) -> np.ndarray:
    """int4, two to a byte."""
    flat = weights.reshape(-1)
    return ((flat[0::2] & 15) | ((flat[1::2] & 15) << 4)).astype(np.uint8)


def integer_convolution(path: Path, draw: Drawn, *, depthwise: bool, groups: int = 1) -> Made:
    """A convolution of 8 bits with everything drawn."""
    rng, one_of = draw.rng, draw.one_of
    channels, kernel = (
        int(one_of(1, 3, 4, 5, 8, 16)) * groups,
        (int(rng.integers(1, 4)), int(rng.integers(1, 4))),
    )
    outputs = channels * int(one_of(1, 1, 2, 3)) if depthwise else int(one_of(1, 2, 7, 8, 16)) * groups
    per_axis = draw.kind == "INT8" and (depthwise or bool(one_of(True, True, False)))
    shape = (1, *kernel, outputs) if depthwise else (outputs, *kernel, channels // groups)
    given, scale = float(one_of(0.05, 1 / 255, 1 / 128, 0.5)), draw.weights_scale(outputs, per_axis=per_axis)
    stride, padding, activation = int(one_of(1, 2)), int(one_of(0, 1)), int(one_of(0, 1, 3))
    dilation = 1 if stride > 1 else int(one_of(1, 1, 2))
    x = draw.codes(int(one_of(1, 2)), int(rng.integers(5, 12)), int(rng.integers(5, 12)), channels)
    sizes = [size(x.shape[1 + axis], kernel[axis], stride, padding, dilation) for axis in (0, 1)]
    weights = Put(shape, draw.kind, scale, 0 if draw.kind == "INT8" else int(rng.integers(100, 160)), 3 if depthwise and per_axis else 0,
                  draw.codes(*shape, least=-127))  # fmt: skip
    result = draw.output_scale(
        given, scale, int(np.prod(kernel)) * shape[3] if not depthwise else int(np.prod(kernel))
    )
    options = {"depthMultiplier": outputs // channels} if depthwise else {}
    one_operator(
        path, "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D",
        [Put(x.shape, draw.kind, given, draw.zero_point()), weights, Put((outputs,), "INT32", scale * np.float32(given), value=draw.bias(outputs))],
        [Put((len(x), *sizes, outputs), draw.kind, result, draw.zero_point())], "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions", version=5,
        strideH=stride, strideW=stride, dilationHFactor=dilation, dilationWFactor=dilation, padding=padding, fusedActivationFunction=activation, **options,
    )  # fmt: skip
    return Made(path, [x])


def integer_product(path: Path, draw: Drawn, *, rank: int, keep: bool) -> Made:
    """A FULLY_CONNECTED of 8 bits with everything drawn."""
    one_of = draw.one_of
    depth, outputs = int(one_of(1, 3, 7, 16, 64, 130, 257)), int(one_of(1, 2, 5, 16, 40))
    given, scale = (
        float(one_of(0.05, 1 / 255, 1 / 128, 0.5)),
        draw.weights_scale(outputs, per_axis=draw.kind == "INT8" and bool(one_of(0, 1))),
    )
    x = draw.codes(*{1: (), 2: (3,), 3: (2, 3), 4: (1, 2, 2)}[rank], depth)
    rows = x.shape[:-1] if keep else (int(np.prod(x.shape[:-1])),)
    weights = Put(
        (outputs, depth),
        draw.kind,
        scale,
        0 if draw.kind == "INT8" else 117,
        0,
        draw.codes(outputs, depth, least=-127),
    )
    bias = (
        Put((outputs,), "INT32", scale * np.float32(given), value=draw.bias(outputs))
        if one_of(True, True, False)
        else None
    )
    one_operator(
        path, "FULLY_CONNECTED", [Put(x.shape, draw.kind, given, draw.zero_point()), weights, bias],
        [Put((*rows, outputs), draw.kind, draw.output_scale(given, scale, depth), draw.zero_point())], "FullyConnectedOptions", version=5,
        keepNumDims=keep, fusedActivationFunction=int(one_of(0, 1, 3)),
    )  # fmt: skip
    return Made(path, [x])


def nodes(path: Path) -> list[str]:
    """What onnxruntime really runs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(path.with_suffix(".optimized.onnx"))
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
