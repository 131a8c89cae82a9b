"""8-bit weights on processors with and without VNNI: the latter emulated by qemu."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tflite_models import Put, by_litert, by_onnxruntime, import_job, imported, lsb, one_operator

from mlconv.convert.tflite_import.graph import Target
from mlconv.convert.tflite_import.importer import Imported, import_model
from mlconv.convert.tflite_import.isa import ISAS, Isa, isa_of, this_machines
from mlconv.formats import tflite_read
from mlconv.runners import x86
from mlconv.runners.litert import entry_of

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]

QEMU = shutil.which("qemu-x86_64-static") or shutil.which("qemu-x86_64")
emulated = pytest.mark.skipif(
    QEMU is None or platform.machine() != "x86_64",
    reason="needs qemu-x86_64 (Debian: qemu-user-static), on x86",
)


def convolution(
    path: Path, kernel: int, channels: int, groups: int, pattern: list[int], *, depthwise: bool = False
) -> tuple[Path, np.ndarray]:
    """One whose weights repeat ``pattern`` in the order of onnxruntime's sums, and the input that makes the most of them."""
    outputs = 8 * channels if depthwise else 8
    terms = kernel * kernel * (1 if depthwise else channels // groups)
    rows = (
        np.resize(np.array(pattern, np.int8), (1, terms))
        .repeat(outputs, 0)
        .reshape(outputs, kernel, kernel, -1)
    )
    weights = np.ascontiguousarray(rows.transpose(3, 1, 2, 0)) if depthwise else rows
    x, scale = np.full((1, 9, 9, channels), 127, np.int8), np.full(outputs, 0.01, np.float32)
    one_operator(
        path, "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D",
        [Put(x.shape, "INT8", 0.02, -128), Put(weights.shape, "INT8", scale, 0, 3 if depthwise else 0, weights),
         Put((outputs,), "INT32", scale * np.float32(0.02), value=np.zeros(outputs, np.int32))],
        [Put((1, 9, 9, outputs), "INT8", 0.02 * 0.01 * terms * 160, 0)], "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions", version=3,
        strideH=1, strideW=1, **({"depthMultiplier": 8} if depthwise else {}),
    )  # fmt: skip
    return path, x


def product(path: Path, depth: int, pattern: list[int]) -> tuple[Path, np.ndarray]:
    weights, x = (
        np.resize(np.array(pattern, np.int8), (1, depth)).repeat(24, 0),
        np.full((5, depth), 127, np.int8),
    )
    one_operator(
        path, "FULLY_CONNECTED", [Put(x.shape, "INT8", 0.02, -128), Put(weights.shape, "INT8", 0.01, value=weights), Put((24,), "INT32", 0.0002, value=np.zeros(24, np.int32))],
        [Put((5, 24), "INT8", 0.02 * 0.01 * depth * 160, 0)], "FullyConnectedOptions", version=4,
    )  # fmt: skip
    return path, x


EXTREME, HARMLESS = [127, 120, 125, 90], [127, 1, 1, 127]
"""Neighbours whose sum times 255 leaves 16 bits; none whose does, though others' would."""


def drawn(folder: Path, pattern: list[int]) -> dict[str, tuple[Path, np.ndarray]]:
    sizes = {
        "16": (3, 16, 1),
        "3": (3, 3, 1),
        "5": (2, 5, 1),
        "pointwise": (1, 32, 1),
        "grouped": (3, 12, 2),
        "odd groups": (3, 6, 2),
    }
    made = {name: convolution(folder / f"{name}.tflite", *size, pattern) for name, size in sizes.items()}
    made["depthwise"] = convolution(folder / "depthwise.tflite", 3, 4, 1, pattern, depthwise=True)
    return made | {
        f"product {depth}": product(folder / f"p{depth}.tflite", depth, pattern) for depth in (16, 33)
    }


WHOLE = {"odd groups", "depthwise"}
"""Those that are written in float32 (``ops/whole_conv.py``) where they may be arranged for speed."""

PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np, onnxruntime
from mlconv.convert.tflite_import.isa import this_machines
from mlconv.runners import x86
from mlconv.runners.onnx_session import OnnxSession
found = {"saturates": x86.saturates(), "isa": this_machines(), "worst": []}
for entry in json.load(open(sys.argv[1])):
    x, y = np.load(entry["x"]), np.load(entry["y"])
    if entry["runner"] == "mlconv":
        session = OnnxSession(Path(entry["model"]))
        (answer,) = session.run({session.inputs[0].name: x}).values()
    else:
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, 1
        session = onnxruntime.InferenceSession(entry["model"], options, providers=["CPUExecutionProvider"])
        (answer,) = session.run(None, {session.get_inputs()[0].name: x})
    found["worst"].append(int(np.abs(answer.astype(int) - y).max()))
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Haswell:
    """What a processor with AVX2 and without VNNI answers.

    Attributes:
        worst: LSB between onnxruntime there and LiteRT here, by (weights, target, runner): one for each operator.
    """

    saturates: bool
    isa: str
    worst: dict[tuple[str, str, str], list[int]]


@pytest.fixture(scope="module")
def haswell(tmp_path_factory: pytest.TempPathFactory) -> Haswell:
    folder, told, keys = tmp_path_factory.mktemp("haswell"), [], []
    for weights, pattern in (("extreme", EXTREME), ("harmless", HARMLESS)):
        (folder / weights).mkdir()
        for number, (name, (path, x)) in enumerate(drawn(folder / weights, pattern).items()):
            puts, outs = folder / f"{weights}{number}.x.npy", folder / f"{weights}{number}.y.npy"
            np.save(puts, x)
            np.save(outs, by_litert(path, x)[0])
            for target in ("vnni", "portable", *(["whole numbers"] if name in WHOLE else [])):
                model, is_whole = folder / f"{weights}{number}.{target}.onnx", target == "whole numbers"
                made = imported(path, target_isa="vnni" if is_whole else target, optimize=is_whole)
                model.write_bytes(made.read_bytes())
                for runner in ("plain", "mlconv"):
                    keys.append((weights, target, runner))
                    told.append({"model": str(model), "x": str(puts), "y": str(outs), "runner": runner})
    (folder / "told.json").write_text(json.dumps(told))
    assert QEMU is not None
    command = [QEMU, "-cpu", "Haswell", sys.executable, "-c", PROGRAM, str(folder / "told.json")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = json.loads(ran.stdout)
    worst: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for key, answer in zip(keys, found["worst"], strict=True):
        worst[key].append(answer)
    return Haswell(found["saturates"], found["isa"], worst)


@emulated
def test_the_probe_and_the_default_know_a_processor_without_vnni(haswell: Haswell) -> None:
    assert (haswell.saturates, haswell.isa) == (True, "avx2")


@emulated
def test_a_file_for_vnni_is_wrong_there_and_mlconvs_runner_makes_it_right(haswell: Haswell) -> None:
    assert min(haswell.worst["extreme", "vnni", "plain"]) > 10
    assert set(haswell.worst["extreme", "vnni", "mlconv"]) == {0}


@emulated
def test_a_portable_file_is_right_there_in_any_runner(haswell: Haswell) -> None:
    assert set(haswell.worst["extreme", "portable", "plain"]) == {0}
    assert set(haswell.worst["extreme", "portable", "mlconv"]) == {0}


@emulated
@pytest.mark.parametrize("weights", ["extreme", "harmless"])
def test_whole_numbers_in_float32_are_right_there(haswell: Haswell, weights: str) -> None:
    assert haswell.worst[weights, "whole numbers", "plain"] == [0] * len(WHOLE)
    assert haswell.worst[weights, "whole numbers", "mlconv"] == [0] * len(WHOLE)


@emulated
def test_weights_told_harmless_do_not_saturate_there(haswell: Haswell) -> None:
    assert set(haswell.worst["harmless", "vnni", "plain"]) == {0}


# ---------------------------------------------------------------- on any machine


def counted(path: Path, isa: Isa) -> Imported:
    job, model = import_job(path), tflite_read.read(path)
    entry = entry_of(job.source, model, None)
    return import_model(
        model, entry, [spec for _, spec in entry.inputs], entry.outputs_apart(), Target(18, isa), "m.tflite"
    )


def test_operators_that_can_saturate_are_counted_and_named(tmp_path: Path) -> None:
    extreme, harmless = (
        product(tmp_path / "e.tflite", 64, EXTREME)[0],
        product(tmp_path / "h.tflite", 64, HARMLESS)[0],
    )
    assert [
        (counted(path, "vnni").eight_bit, counted(path, "vnni").saturating) for path in (extreme, harmless)
    ] == [(1, ("y0",)), (1, ())]
    assert counted(extreme, "portable").saturating == ()
    assert not any(counted(path, "vnni").saturating for path, _ in drawn(tmp_path, HARMLESS).values())


def test_a_depthwise_convolution_of_one_output_a_channel_never_saturates(tmp_path: Path) -> None:
    weights = np.full((1, 3, 3, 4), 127, np.int8)
    path = one_operator(
        tmp_path / "m.tflite", "DEPTHWISE_CONV_2D", [Put((1, 9, 9, 4), "INT8", 0.1), Put(weights.shape, "INT8", [0.1] * 4, 0, 3, weights), Put((4,), "INT32", [0.01] * 4, value=np.zeros(4, np.int32))],
        [Put((1, 9, 9, 4), "INT8", 9.0)], "DepthwiseConv2DOptions", version=3, strideH=1, strideW=1, depthMultiplier=1,
    )  # fmt: skip
    assert (counted(path, "vnni").eight_bit, counted(path, "vnni").saturating) == (1, ())


@pytest.mark.parametrize("isa", ISAS)
def test_every_form_of_the_weights_is_exact_here(tmp_path: Path, isa: Isa) -> None:
    for path, x in drawn(tmp_path, EXTREME).values():
        result = imported(path, target_isa=isa, optimize=False)
        assert lsb(by_litert(path, x), by_onnxruntime(result, x)) == 0
        types = {tensor.data_type for tensor in onnx.load(result).graph.initializer if len(tensor.dims) > 1}
        assert types == {onnx.TensorProto.UINT8 if isa in ("avx2", "portable") else onnx.TensorProto.INT8}


def test_the_isa_asked_for_is_taken_and_this_machines_is_one_of_them() -> None:
    assert [isa_of(isa) for isa in ISAS] == list(ISAS)
    assert isa_of(None) == this_machines()
    assert this_machines() in ISAS
    assert this_machines() != "vnni" or not x86.saturates()


@pytest.mark.parametrize(("machine", "features", "expected"), [
    ("aarch64", {}, "arm"), ("ppc64le", {}, "portable"), ("x86_64", {"AVX512VNNI": True}, "vnni"), ("x86_64", {}, "portable"),
])  # fmt: skip
def test_machines_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, machine: str, features: dict[str, bool], expected: str
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr("mlconv.convert.tflite_import.isa._numpy_finds", features.get)
    assert this_machines() == expected
