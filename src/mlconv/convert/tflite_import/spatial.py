"""Padding and window arithmetic of convolutions and pools: it stands once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import Dims, NotExpressible
from mlconv.formats.tflite_graph import Operator


def same_pads(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """TensorFlow's SAME: what is to be padded before and after, the odd one after (tensorflow/lite/kernels/padding.h)."""
    reach = (kernel - 1) * dilation + 1
    total = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


def strides_of(operator: Operator) -> tuple[int, int]:
    return operator.integer("stride_h", 1) or 1, operator.integer("stride_w", 1) or 1


def dilations_of(operator: Operator) -> tuple[int, int]:
    return operator.integer("dilation_h_factor", 1) or 1, operator.integer("dilation_w_factor", 1) or 1


def padding(operator: Operator, sizes: Dims, kernel: Sequence[int], strides: Sequence[int],
            dilations: Sequence[int] = (1, 1)) -> dict[str, Any]:  # fmt: skip
    """The attributes that express VALID or SAME padding: explicit ``pads`` where the sizes tell them, else ``auto_pad``.

    Args:
        sizes: Of the spatial axes; of one with stride 1 none is needed.

    Raises:
        NotExpressible: It is neither.
    """
    if operator.padding == "VALID":
        return {"pads": [0] * (2 * len(kernel))}
    if operator.padding != "SAME":
        raise NotExpressible(f"its padding is {operator.padding}")
    # with stride 1 any size gives the same pads; onnxruntime does not take dilations with auto_pad
    told = [
        1 if not isinstance(size, int) and stride == 1 else size
        for size, stride in zip(sizes, strides, strict=True)
    ]
    known = [size for size in told if isinstance(size, int)]
    if len(known) < len(sizes):
        return {"auto_pad": "SAME_UPPER"}
    pairs = [same_pads(*axis) for axis in zip(known, kernel, strides, dilations, strict=True)]
    return {"pads": [before for before, _ in pairs] + [after for _, after in pairs]}
