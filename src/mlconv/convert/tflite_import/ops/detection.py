"""``TFLite_Detection_PostProcess``: boxes decoded from anchors, and of those that overlap the best.

tensorflow/lite/kernels/detection_postprocess.cc. Two ways of suppression: the fast one compares boxes by the score of their
best class, whatever that is; the regular one looks at each class apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.formats.flexbuffer import FlexbufferError, read_scalars
from mlconv.formats.tflite_graph import Operator, broken


@dataclass(frozen=True, slots=True)
class Options:
    """The operator's options.

    Attributes:
        scales: What the encoded y, x, h and w are divided by.
    """

    max_detections: int
    max_classes: int
    per_class: int
    regular: bool
    score_threshold: float
    overlap_threshold: float
    classes: int
    scales: tuple[float, float, float, float]

    @classmethod
    def of(cls, op: Operator) -> Options:
        """As LiteRT reads them: what is missing is 0, but for 100 detections per class.

        Raises:
            Corrupt: They are broken.
            NotExpressible: LiteRT refuses such options.
        """
        try:
            found = read_scalars(op.custom_options)
        except FlexbufferError as error:
            raise broken(f"options of operator {op.index} ({op.name})", error) from error
        odd = [name for name, value in found.items() if not abs(value) < _LARGEST]
        if odd:
            raise NotExpressible(f"its {odd[0]} is {found[odd[0]]}")
        scales = [float(np.float32(found.get(f"{name}_scale", 0))) for name in "yxhw"]
        made = cls(
            int(found.get("max_detections", 0)), int(found.get("max_classes_per_detection", 0)), int(found.get("detections_per_class", 100)),
            bool(found.get("use_regular_nms", False)), float(found.get("nms_score_threshold", 0)), float(found.get("nms_iou_threshold", 0)),
            int(found.get("num_classes", 0)), (scales[0], scales[1], scales[2], scales[3]),
        )  # fmt: skip
        if min(made.max_detections, made.max_classes, made.per_class, made.classes) < 1 or 0 in scales:
            raise NotExpressible("an option that must be positive is missing or not")
        if not 0 < np.float32(made.overlap_threshold) <= 1:
            raise NotExpressible(f"its overlap threshold {made.overlap_threshold} is not above 0 and up to 1")
        return made


_LARGEST = (
    1 << 20
)  # of any option: no detector has as many boxes; neither does infinity pass, nor what is no number


@dataclass(frozen=True, slots=True)
class _Found:
    """Detections, best first: ``boxes`` (found, columns, 4), ``classes`` and ``scores`` (found, columns)."""

    boxes: ir.Value
    classes: ir.Value
    scores: ir.Value
    count: ir.Value


def postprocess(e: Emitter, op: Operator) -> None:
    """Outputs: boxes (1, n, 4) as ymin, xmin, ymax, xmax; classes (1, n); scores (1, n); how many boxes (1)."""
    options = Options.of(op)
    boxes, scores = _decoded(e, op, options), _scores(e, op, options)
    found = (_regular if options.regular else _fast)(e, boxes, scores, options)
    total = options.max_detections * options.max_classes
    missing = e.op("Sub", e.ints(options.max_detections), found.count)
    for index, value, columns in zip(
        op.outputs, (found.boxes, found.classes, found.scores), (4, 1, 1), strict=False
    ):
        rest = value.shape[1] if value.shape is not None and isinstance(value.shape[1], int) else 1
        behind = [missing, e.ints(options.max_classes - rest), *([e.ints(0)] if columns == 4 else [])]
        pads = e.op("Concat", e.ints(*[0] * len(behind)), *behind, axis=0)
        padded = e.op("Pad", value, pads, e.const(np.float32(0)))
        if index >= 0:
            e.put(index, e.reshape(padded, (1, total, 4) if columns == 4 else (1, total)))
    if op.outputs[3] >= 0:
        e.put(op.outputs[3], e.op("Cast", found.count, to=ir.DataType.FLOAT))


def _decoded(e: Emitter, op: Operator, options: Options) -> ir.Value:
    """(boxes, 4): in float64 up to the corners, as LiteRT does it."""
    encoded = e.op("Cast", _corners_of(e, op.inputs[0]), to=ir.DataType.DOUBLE)
    anchors = e.op("Cast", _plain(e, op.inputs[2]), to=ir.DataType.DOUBLE)

    def pair(value: ir.Value, first: int) -> ir.Value:
        return e.op("Slice", value, e.ints(first), e.ints(first + 2), e.ints(1))

    def scales(first: int) -> ir.Value:
        return e.const(np.array(options.scales[first : first + 2], np.float64))

    sizes = pair(anchors, 2)
    center = e.op("Add", e.op("Mul", e.op("Div", pair(encoded, 0), scales(0)), sizes), pair(anchors, 0))
    grown = e.op("Mul", e.const(np.float64(0.5)), e.op("Exp", e.op("Div", pair(encoded, 2), scales(2))))
    center, half = (
        e.op("Cast", value, to=ir.DataType.FLOAT) for value in (center, e.op("Mul", grown, sizes))
    )
    return e.op("Concat", e.op("Sub", center, half), e.op("Add", center, half), axis=1)


def _corners_of(e: Emitter, index: int) -> ir.Value:
    """(boxes, 4): what stands behind the first four numbers of each is not read."""
    dims = e.dims(index)
    if (
        dims is None
        or len(dims) != 3
        or dims[0] not in (1, None)
        or not isinstance(dims[2], int)
        or dims[2] < 4
    ):
        raise NotExpressible("its boxes are not those of one picture")
    value = e.reshape(_plain(e, index), (-1, dims[2]))
    return value if dims[2] == 4 else e.op("Slice", value, e.ints(0), e.ints(4), e.ints(1))


def _scores(e: Emitter, op: Operator, options: Options) -> ir.Value:
    """(boxes, classes): without the background, which comes first where it is there."""
    dims = e.dims(op.inputs[1])
    if (
        dims is None
        or len(dims) != 3
        or not isinstance(dims[2], int)
        or dims[2] - options.classes not in (0, 1)
    ):
        raise NotExpressible(f"its scores are not those of {options.classes} classes")
    value = e.reshape(_plain(e, op.inputs[1]), (-1, dims[2]))
    return (
        value if dims[2] == options.classes else e.op("Slice", value, e.ints(1), e.ints(dims[2]), e.ints(1))
    )


def _plain(e: Emitter, index: int) -> ir.Value:
    if e.tensor(index).dtype not in ("float32", "uint8"):
        raise NotExpressible(f"its operands are of type {e.tensor(index).dtype}")
    return e.real(index)


def _suppressed(e: Emitter, boxes: ir.Value, scores: ir.Value, most: int, options: Options) -> ir.Value:
    """(found, 3): picture, class and box. LiteRT takes scores from the threshold on, ONNX above it."""
    floor = np.nextafter(np.float32(options.score_threshold), np.float32(-np.inf))
    limits = (
        e.const(np.array([options.overlap_threshold], np.float32)),
        e.const(np.array([floor], np.float32)),
    )
    return e.op("NonMaxSuppression", e.op("Unsqueeze", boxes, e.ints(0)), scores, e.ints(most), *limits)


def _column(e: Emitter, value: ir.Value, number: int) -> ir.Value:
    return e.reshape(e.op("Slice", value, e.ints(number), e.ints(number + 1), e.ints(1)), (-1,))


def _fast(e: Emitter, boxes: ir.Value, scores: ir.Value, options: Options) -> _Found:
    """Each box with its best classes."""
    columns = min(options.max_classes, options.classes)
    best, classes = e.ops("TopK", scores, e.ints(columns), outputs=2, axis=1, largest=1, sorted=1)
    by = e.reshape(e.op("Slice", best, e.ints(0), e.ints(1), e.ints(1)), (1, 1, -1))
    chosen = _column(e, _suppressed(e, boxes, by, options.max_detections, options), 2)
    repeated = e.op(
        "Expand", e.op("Unsqueeze", e.op("Gather", boxes, chosen), e.ints(1)), e.ints(1, columns, 1)
    )
    named = e.op("Cast", e.op("Gather", classes, chosen), to=ir.DataType.FLOAT)
    return _Found(repeated, named, e.op("Gather", best, chosen), e.op("Shape", chosen))


def _regular(e: Emitter, boxes: ir.Value, scores: ir.Value, options: Options) -> _Found:
    """The best of all classes together; a box counts once for each class."""
    by = e.op("Unsqueeze", e.op("Transpose", scores, perm=(1, 0)), e.ints(0))
    chosen = _suppressed(e, boxes, by, options.per_class, options)
    classes, places = _column(e, chosen, 1), _column(e, chosen, 2)
    held = e.op(
        "GatherND",
        scores,
        e.op("Concat", e.op("Unsqueeze", places, e.ints(1)), e.op("Unsqueeze", classes, e.ints(1)), axis=1),
    )
    count = e.op("Min", e.op("Shape", held), e.ints(options.max_detections))
    best, order = e.ops("TopK", held, count, outputs=2, axis=0, largest=1, sorted=1)
    named = e.op("Cast", e.op("Gather", classes, order), to=ir.DataType.FLOAT)
    found = e.op("Gather", boxes, e.op("Gather", places, order))
    found, named, best = (e.op("Unsqueeze", value, e.ints(1)) for value in (found, named, best))
    return _Found(found, named, best, count)
