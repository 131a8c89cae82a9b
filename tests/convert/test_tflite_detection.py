"""``TFLite_Detection_PostProcess``: the importer against LiteRT's own operator."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tflite_models import TfliteGraph, by_litert, by_onnxruntime, imported

from mlconv.errors import Corrupt, UnsupportedOperator

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]

OPTIONS: dict[str, Any] = {
    "max_detections": 10, "max_classes_per_detection": 1, "detections_per_class": 100, "use_regular_nms": False, "num_classes": 5,
    "nms_score_threshold": 1e-8, "nms_iou_threshold": 0.6, "y_scale": 10.0, "x_scale": 10.0, "h_scale": 5.0, "w_scale": 5.0,
}  # fmt: skip


def detector(
    path: Path, anchors: np.ndarray, dtype: str, columns: int, options: dict[str, Any], coordinates: int = 4
) -> Path:
    from flatbuffers import flexbuffers  # type: ignore[import-untyped]

    return written(path, anchors, dtype, columns, bytes(flexbuffers.Dumps(options)), options, coordinates)


def written(
    path: Path,
    anchors: np.ndarray,
    dtype: str,
    columns: int,
    data: bytes,
    options: dict[str, Any],
    coordinates: int = 4,
) -> Path:
    graph, quantized = TfliteGraph(), dtype != "FLOAT32"
    own = [
        {"scale": scale, "zero_point": point} if quantized else {}
        for scale, point in ((0.08, 128), (1 / 256, 0), (1 / 255, 0))
    ]
    boxes = graph.tensor("boxes", (1, len(anchors), coordinates), kind=dtype, **own[0])
    scores = graph.tensor("scores", (1, len(anchors), columns), kind=dtype, **own[1])
    held = np.rint(anchors * 255).astype(np.uint8) if quantized else anchors
    anchor = graph.tensor("anchors", anchors.shape, held, dtype, **own[2])
    total = options["max_detections"] * options["max_classes_per_detection"]
    outputs = [
        graph.tensor(f"y{number}", shape)
        for number, shape in enumerate([(1, total, 4), (1, total), (1, total), (1,)])
    ]
    graph.operator("CUSTOM", [boxes, scores, anchor], outputs, custom="TFLite_Detection_PostProcess")
    graph.graph.operators[-1].customOptions = list(data)
    return graph.write(path / "m.tflite", [boxes, scores], outputs)


def anchors_of(count: int) -> np.ndarray:
    """Centre and size, as an SSD lays them over a picture."""
    side = int(np.ceil(np.sqrt(count / 2)))
    grid = (np.stack(np.meshgrid(*[np.arange(side)] * 2, indexing="ij"), -1).reshape(-1, 2) + 0.5) / side
    sizes = [(0.3, 0.3), (0.2, 0.45)]
    return np.concatenate([np.concatenate([grid, np.broadcast_to(size, grid.shape)], 1) for size in sizes])[
        :count
    ].astype(np.float32)


def feeds(
    count: int, columns: int, dtype: str, seed: int, coordinates: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes near their anchors; scores of which no two are equal, where the type allows."""
    rng = np.random.default_rng(seed)
    if dtype == "UINT8":  # one score for each byte: LiteRT does not say which of equal ones comes first
        codes = np.zeros(count * columns, np.uint8)
        places = rng.permutation(count * columns)[:250]
        codes[places] = 255 - np.arange(len(places))
        return rng.integers(90, 166, (1, count, coordinates)).astype(np.uint8), codes.reshape(
            1, count, columns
        )
    scores = (rng.permutation(count * columns) / (count * columns)).astype(np.float32) ** 3
    return rng.normal(0, 1, (1, count, coordinates)).astype(np.float32), scores.reshape(1, count, columns)


def assert_equal(path: Path, options: dict[str, Any], *given: np.ndarray, **more: Any) -> int:
    """The detections are LiteRT's, to the last bit but for float32's last; what lies behind them is 0."""
    expected, found = by_litert(path, *given), by_onnxruntime(imported(path, **more), *given)
    assert [array.shape for array in expected] == [array.shape for array in found]
    count = int(expected[3][0])
    assert found[3] == expected[3]
    columns = options["max_classes_per_detection"]
    filled = min(columns, options["num_classes"])
    if options["use_regular_nms"]:
        columns = filled = 1
    rows = np.arange(count * columns).reshape(count, columns)[:, :filled].reshape(-1)
    assert np.array_equal(found[1][0, rows], expected[1][0, rows])
    assert np.array_equal(found[2][0, rows], expected[2][0, rows])
    assert np.allclose(found[0][0, rows], expected[0][0, rows], rtol=0, atol=1e-6)
    for array in found[:3]:
        assert not array[0, count * columns :].any()
    return count


@pytest.mark.parametrize("background", [0, 1])
@pytest.mark.parametrize("dtype", ["FLOAT32", "UINT8"])
@pytest.mark.parametrize("regular", [True, False])
@pytest.mark.parametrize("more", [
    {}, {"max_detections": 100}, {"nms_score_threshold": 0.4}, {"nms_iou_threshold": 0.3, "max_detections": 25}, {"nms_iou_threshold": 1.0},
    {"num_classes": 1}, {"max_detections": 1}, {"nms_score_threshold": 1.5}, {"detections_per_class": 2, "max_detections": 30},
])  # fmt: skip
def test_detections_are_litert_s(
    tmp_path: Path, more: dict[str, Any], regular: bool, dtype: str, background: int
) -> None:
    options = {**OPTIONS, **more, "use_regular_nms": regular}
    columns = options["num_classes"] + background
    for seed, count in enumerate((40, 300)):
        path = detector(tmp_path, anchors_of(count), dtype, columns, options)
        found = assert_equal(path, options, *feeds(count, columns, dtype, seed))
        assert found or options["nms_score_threshold"] > 1


def test_of_equal_scores_the_fast_way_takes_the_first(tmp_path: Path) -> None:
    """LiteRT sorts boxes stably there; the regular way sorts partially, and equal scores come as its heap has them."""
    path = detector(tmp_path, anchors_of(300), "UINT8", 6, OPTIONS)
    for seed in range(5):
        boxes, _ = feeds(300, 6, "UINT8", seed)
        scores = (np.random.default_rng(seed).integers(0, 8, (1, 300, 6)) * 30).astype(np.uint8)
        assert assert_equal(path, OPTIONS, boxes, scores) == 10


@pytest.mark.parametrize("classes", [2, 3, 8])
def test_a_box_brings_its_best_classes(tmp_path: Path, classes: int) -> None:
    """Where there are fewer classes than wanted, LiteRT leaves gaps."""
    options = {**OPTIONS, "max_classes_per_detection": 3, "num_classes": classes}
    path = detector(tmp_path, anchors_of(80), "FLOAT32", classes + 1, options)
    assert assert_equal(path, options, *feeds(80, classes + 1, "FLOAT32", 0)) > 3


@pytest.mark.parametrize("regular", [True, False])
def test_opset_13_has_detections_too(tmp_path: Path, regular: bool) -> None:
    options = {**OPTIONS, "use_regular_nms": regular}
    path = detector(tmp_path, anchors_of(80), "FLOAT32", 6, options)
    assert_equal(path, options, *feeds(80, 6, "FLOAT32", 0), opset=13)


def test_what_stands_behind_the_four_coordinates_is_not_read(tmp_path: Path) -> None:
    path = detector(tmp_path, anchors_of(80), "FLOAT32", 6, OPTIONS, coordinates=16)
    assert_equal(path, OPTIONS, *feeds(80, 6, "FLOAT32", 0, coordinates=16))


def test_missing_options_are_as_litert_takes_them(tmp_path: Path) -> None:
    less = {
        key: value
        for key, value in OPTIONS.items()
        if key not in ("use_regular_nms", "detections_per_class", "nms_score_threshold")
    }
    path = detector(tmp_path, anchors_of(80), "FLOAT32", 6, less)
    assert_equal(path, OPTIONS, *feeds(80, 6, "FLOAT32", 0))


def test_a_threshold_that_litert_refuses_is_refused(tmp_path: Path) -> None:
    path = detector(tmp_path, anchors_of(8), "FLOAT32", 6, {**OPTIONS, "nms_iou_threshold": 0.0})
    with pytest.raises(
        UnsupportedOperator,
        match=r"custom `TFLite_Detection_PostProcess` \(#0: its overlap threshold 0\.0 is not above 0",
    ):
        imported(path)


@pytest.mark.parametrize(
    ("option", "value"), [("max_detections", float("nan")), ("num_classes", 2**40), ("y_scale", float("inf"))]
)
def test_options_that_no_detector_has_are_refused(tmp_path: Path, option: str, value: float) -> None:
    from flatbuffers import flexbuffers

    data = bytes(flexbuffers.Dumps({**OPTIONS, option: value}))
    with pytest.raises(UnsupportedOperator, match=f"its {option} is "):
        imported(written(tmp_path, anchors_of(8), "FLOAT32", 6, data, OPTIONS))


def test_broken_options_are_a_broken_file(tmp_path: Path) -> None:
    path = written(tmp_path, anchors_of(8), "FLOAT32", 6, b"\x07\x00\x01", OPTIONS)
    with pytest.raises(Corrupt, match=r"options of operator 0 \(CUSTOM:TFLite_Detection_PostProcess\)"):
        imported(path)
