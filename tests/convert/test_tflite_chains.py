"""Chains of pointwise operators between 8-bit tensors: one table, LiteRT's answer on every code."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tflite_models import TfliteGraph, by_litert, by_onnxruntime, imported, lsb

from mlconv import to_onnx

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]

Link = tuple[str, dict[str, Any], dict[str, Any]]
"""An operator; the tensor that it makes; its constant operand, with ``first`` where that comes before the other."""

SHAPE = (1, 4, 64, 3)
CODES = np.resize(np.arange(256, dtype=np.uint8), SHAPE)


def _file(path: Path, start: dict[str, Any], links: list[Link], watched: tuple[int, ...] = ()) -> Path:
    """A chain of operators; ``watched`` numbers links whose results are outputs too."""
    graph = TfliteGraph()
    x = graph.tensor("x", SHAPE, **start)
    made = [x]
    for number, (kind, tensor, constant) in enumerate(links):
        out, operands = graph.tensor(f"t{number}", SHAPE, **tensor), [made[-1]]
        if constant:
            value = constant["value"]
            more = {key: constant[key] for key in ("scale", "zero_point") if key in constant}
            name = {np.int8: "INT8", np.uint8: "UINT8", np.float32: "FLOAT32"}[value.dtype.type]
            given = graph.tensor(f"c{number}", value.shape, value, name, **more)
            operands = [given, *operands] if constant.get("first") else [*operands, given]
        options = {
            "ADD": "AddOptions",
            "SUB": "SubOptions",
            "MUL": "MulOptions",
            "QUANTIZE": "QuantizeOptions",
        }.get(kind, "")
        graph.operator(
            kind,
            operands,
            [out],
            options,
            version=2 if kind in ("ADD", "SUB", "MUL") and "scale" in tensor else 1,
        )
        made.append(out)
    return graph.write(path, [x], [made[-1], *(made[1 + number] for number in watched)])


def _told(made: Path) -> tuple[set[str], list[str]]:
    """The operators that nodes name, and those that none does."""
    model = onnx.load(made)
    whole = {entry.key: entry.value for entry in model.metadata_props}
    named = {
        origin
        for node in model.graph.node
        for entry in node.metadata_props
        if entry.key == "mlconv.tflite"
        for origin in entry.value.split("; ")
    }
    return named, json.loads(whole.get("mlconv.tflite.folded", "[]"))


def _kinds(made: Path) -> list[str]:
    return [node.op_type for node in onnx.load(made).graph.node]


def _int8(scale: float, zero_point: int) -> dict[str, Any]:
    return {"kind": "INT8", "scale": scale, "zero_point": zero_point}


def _constant(code: int, scale: float, zero_point: int, shape: tuple[int, ...] = ()) -> dict[str, Any]:
    return {"value": np.full(shape, code, np.int8), "scale": scale, "zero_point": zero_point}


PICTURE: list[Link] = [  # MoveNet's, as its file has it
    ("CAST", {}, {}),
    ("QUANTIZE", _int8(1.0, -128), {}),
    ("SUB", _int8(1.0, -128), _constant(0, 1e-6, 0, (1, 1, 1, 3))),
    ("MUL", _int8(0.007843137718737125, -128), _constant(127, 3.075740460189991e-05, -128)),
    ("SUB", _int8(0.007843137718737125, -1), _constant(127, 0.003921568859368563, -128)),
]


def test_a_picture_s_way_through_five_operators_is_no_operator(tmp_path: Path) -> None:
    path = _file(tmp_path / "m.tflite", {"kind": "UINT8"}, PICTURE)
    made = imported(path)
    assert _kinds(made) == ["DequantizeLinear", "QuantizeLinear"]  # to int8, the type of the file's output
    assert lsb(by_litert(path, CODES), by_onnxruntime(made, CODES)) == 0


def test_every_operator_is_written_without_optimization(tmp_path: Path) -> None:
    path = _file(tmp_path / "m.tflite", {"kind": "UINT8"}, PICTURE)
    assert {"Cast", "Mul"} <= set(_kinds(imported(path, optimize=False)))


def test_a_tensor_that_is_asked_for_ends_the_chain(tmp_path: Path) -> None:
    path = _file(tmp_path / "m.tflite", {"kind": "UINT8"}, PICTURE, watched=(2,))
    made = imported(path)
    assert "Mul" not in _kinds(made)
    assert lsb(by_litert(path, CODES), by_onnxruntime(made, CODES)) == 0
    assert len(by_onnxruntime(made, CODES)) == 2


def test_a_constant_that_differs_along_an_axis_is_no_chain(tmp_path: Path) -> None:
    links = [
        *PICTURE[:2],
        ("ADD", _int8(1.0, -128), {"value": np.array([1, 2, 3], np.int8), "scale": 1.0, "zero_point": 0}),
    ]
    path = _file(tmp_path / "m.tflite", {"kind": "UINT8"}, links)
    made = imported(path)
    assert "Add" in _kinds(made)
    assert lsb(by_litert(path, CODES), by_onnxruntime(made, CODES)) == 0


def test_a_constant_that_differs_without_effect_is_one(tmp_path: Path) -> None:
    tiny = {"value": np.array([1, -2, 3], np.int8), "scale": 1e-3, "zero_point": 0}
    path = _file(tmp_path / "m.tflite", {"kind": "UINT8"}, [*PICTURE[:2], ("ADD", _int8(1.0, -128), tiny)])
    made = imported(path)
    assert "Add" not in _kinds(made)
    assert lsb(by_litert(path, CODES), by_onnxruntime(made, CODES)) == 0


def test_floats_between_codes_are_part_of_a_chain(tmp_path: Path) -> None:
    links: list[Link] = [
        ("DEQUANTIZE", {}, {}),
        ("SQRT", {}, {}),
        ("QUANTIZE", _int8(0.24252831935882568, -128), {}),
        ("ADD", _int8(0.24958714842796326, -128), _constant(127, 0.0070588234812021255, -128)),
    ]
    path = _file(tmp_path / "m.tflite", _int8(14.999095916748047, -128), links)
    made, x = imported(path), CODES.view(np.int8)
    assert "Sqrt" not in _kinds(made)
    assert lsb(by_litert(path, x), by_onnxruntime(made, x)) == 0


@pytest.mark.parametrize("seed", range(40))
def test_any_chain_answers_what_litert_does(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)

    def tensor() -> dict[str, Any]:
        return _int8(
            float(np.float32(rng.choice([rng.uniform(0.01, 0.05), 1 / 64, 0.02]))),
            int(rng.choice([-128, 0, int(rng.integers(-128, 128))])),
        )

    def scaled(size: float) -> dict[str, Any]:
        return _constant(int(rng.integers(-127, 128)), size / 127, int(rng.choice([0, -128]))) | {
            "first": bool(rng.integers(2))
        }

    def link() -> list[Link]:
        match rng.integers(7):
            case 0:
                return [("QUANTIZE", tensor(), {})]
            case 1:
                return [
                    (str(rng.choice(["RELU", "RELU6", "HARD_SWISH", "ABS"])), tensor() | {"scale": 0.02}, {})
                ]
            case 2 | 3:
                return [(str(rng.choice(["ADD", "SUB"])), tensor(), scaled(2.0))]
            case 4:
                return [("MUL", tensor(), scaled(1.5))]
            case 5:
                return [("LOGISTIC", _int8(1 / 256, -128), {})]
            case _:
                number = {"value": np.float32(rng.uniform(0.3, 2.0)), "first": bool(rng.integers(2))}
                return [
                    ("DEQUANTIZE", {}, {}),
                    (str(rng.choice(["ADD", "SUB", "MUL"])), {}, number),
                    ("QUANTIZE", tensor(), {}),
                ]

    links = [made for _ in range(rng.integers(2, 6)) for made in link()]
    path = _file(tmp_path / "m.tflite", tensor() | {"scale": 0.03}, links)
    x = CODES.view(np.int8)
    assert lsb(by_litert(path, x), by_onnxruntime(imported(path), x)) == 0, links


def test_three_thousand_operators_take_no_time(tmp_path: Path) -> None:
    scale = _int8(0.02, 3)
    path = _file(tmp_path / "m.tflite", scale, [("LEAKY_RELU", scale, {})] * 3000)
    begun = time.process_time()
    imported(path)
    assert (
        time.process_time() - begun < 20
    )  # 3,000 pieces of 20 microseconds of inference, and slack for a slow machine


def test_codes_that_no_path_changes_stay_what_they_are(tmp_path: Path) -> None:
    same = {"kind": "UINT8", "scale": 0.1, "zero_point": 7}
    path = _file(tmp_path / "m.tflite", same, [("QUANTIZE", _int8(0.1, -121), {}), ("QUANTIZE", same, {})])
    made = imported(path)
    assert _kinds(made) == ["Identity"]
    assert np.array_equal(by_onnxruntime(made, CODES)[0], CODES)


def test_nodes_of_a_chain_name_all_its_operators(tmp_path: Path) -> None:
    links: list[Link] = [("DEQUANTIZE", {}, {}), ("ABS", {}, {}), ("QUANTIZE", _int8(0.7, -128), {})]
    made = imported(_file(tmp_path / "m.tflite", _int8(0.9, -128), links))
    chain = "0 DEQUANTIZE [1]; 1 ABS [2]; 2 QUANTIZE [3]"
    told = [entry.value for node in onnx.load(made).graph.node for entry in node.metadata_props]
    assert chain in told
    assert set(told) == {chain}


@pytest.mark.parametrize("finished", [False, True])
def test_operators_that_leave_no_node_are_listed(tmp_path: Path, finished: bool) -> None:
    path = _file(tmp_path / "m.tflite", {"kind": "UINT8"}, PICTURE)
    made = tmp_path / "made.onnx"
    if finished:
        to_onnx(path, made)
    else:
        made = imported(path)
    named, folded = _told(made)
    assert not named
    assert folded == ["0 CAST [1]", "1 QUANTIZE [2]", "2 SUB [3]", "3 MUL [5]", "4 SUB [7]"]


@pytest.mark.parametrize("seed", range(6))
def test_every_operator_is_told_by_a_node_or_by_the_list(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    links: list[Link] = []
    for _ in range(8):
        links += [
            ("DEQUANTIZE", {}, {}),
            (str(rng.choice(["SQRT", "SQUARE", "NEG", "ABS", "FLOOR"])), {}, {}),
            ("QUANTIZE", _int8(float(rng.choice([0.05, 0.5, 2.0])), int(rng.integers(-128, 20))), {}),
        ]
    watched = tuple(int(index) for index in rng.choice(len(links), 2, replace=False))
    named, folded = _told(imported(_file(tmp_path / "m.tflite", _int8(0.1, -100), links, watched)))
    told = sorted(int(origin.split()[0]) for origin in {*named, *folded})
    assert told == list(range(len(links)))
    assert not named & set(folded)
