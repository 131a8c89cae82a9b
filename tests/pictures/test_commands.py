"""Pictures on the command line, from a folder to the record."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from mlconv import schemas
from mlconv.checks.data import open_data
from mlconv.convert.job import Options
from mlconv.formats import ModelFile

RunCli = Callable[..., Any]  # conftest.run_cli


@pytest.fixture
def ground(tmp_path: Path) -> Path:
    """``net.onnx``, which takes batch,3,6,8 and gives the means of the channels, and ``photos`` with two classes."""
    nodes = [helper.make_node("ReduceMean", ["image", "axes"], ["scores"], keepdims=0)]
    graph = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 6, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, tmp_path / "net.onnx")
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(3):
            pixels = rng.integers(0, 256, (20 + number, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.jpg")
    return tmp_path


@pytest.mark.framework("onnxruntime")
def test_a_conversion_compares_on_pictures_and_records_every_stage(ground: Path, run_cli: RunCli) -> None:
    ran = run_cli("onnx", "net.onnx", "-o", "out.onnx", "--data", "photos", "--preprocess", "imagenet",
                  "--samples", "5", "--json", cwd=ground)  # fmt: skip
    assert ran.code == 0, ran
    jsonschema.validate(ran.document, schemas.schema("onnx"), jsonschema.Draft202012Validator)
    parity = ran.document["checks"]["parity"]
    assert (parity["ok"], parity["data"], parity["samples"]) == (True, "photos", 5)
    told = parity["preprocess"]
    low, high = told.pop("range")
    assert -2.2 < low < high < 2.7
    assert told == {
        "asked": "imagenet",
        "stages": ["resize=6x9:cover", "crop=6x8", "order=RGB", "scale=1/255", "mean=0.485:0.456:0.406",
                   "std=0.229:0.224:0.225", "layout=NCHW"],
        "pictures": 5, "classes": ["cat", "dog"], "quantization": None, "sha256": None,
    }  # fmt: skip
    record = json.loads((ground / "out.onnx.mlconv.json").read_text())
    assert record["checks"]["parity"]["preprocess"]["asked"] == "imagenet"
    assert record["options"]["preprocess"] == "imagenet"


@pytest.mark.framework("onnxruntime")
def test_compare_and_check_take_pictures_too(ground: Path, run_cli: RunCli) -> None:
    told = ("--data", "photos", "--preprocess", "resize,-1..1")
    ran = run_cli("compare", "net.onnx", "net.onnx", *told, "--json", cwd=ground)
    assert ran.code == 0, ran
    jsonschema.validate(ran.document, schemas.schema("compare"), jsonschema.Draft202012Validator)
    assert ran.document["preprocess"]["pictures"] == 6
    assert run_cli("check", "net.onnx", *told, cwd=ground).code == 0
    assert (
        run_cli(
            "check", "net.onnx", "--data", "photos/cat/0.jpg", "--preprocess", "-1..1,resize", cwd=ground
        ).code
        == 0
    )


@pytest.mark.framework("onnxruntime")
def test_the_line_that_an_error_names_works(ground: Path, run_cli: RunCli) -> None:
    ran = run_cli("check", "net.onnx", "--data", "photos", "--preprocess", "0..1", cwd=ground)
    assert ran.code == 2, ran
    assert "`photos/cat/0.jpg` is 20x30 (height x width), and input `image` takes 6x8" in ran.err
    (hint,) = [line for line in ran.err.splitlines() if line.startswith("hint: ")]
    assert run_cli("check", "net.onnx", "--data", "photos", *hint.split()[1:], cwd=ground).code == 0


@pytest.mark.framework("onnxruntime")
def test_a_picture_that_is_read_is_never_written_to(ground: Path, run_cli: RunCli) -> None:
    before = (ground / "photos" / "cat" / "0.jpg").read_bytes()
    ran = run_cli("onnx", "net.onnx", "-o", "photos/cat/0.jpg", "--force", "--data", "photos", "--preprocess", "imagenet",
                  cwd=ground)  # fmt: skip
    assert ran.code == 2
    assert "is read by this conversion" in ran.err
    assert (ground / "photos" / "cat" / "0.jpg").read_bytes() == before


def test_what_is_wrong_with_preprocess_is_told_before_the_model_is_looked_at(
    tmp_path: Path, run_cli: RunCli
) -> None:
    ran = run_cli("onnx", "gone.onnx", "--data", "gone", "--preprocess", "resise=3", cwd=tmp_path)
    assert ran.code == 2
    assert ran.err.startswith("error[MLC018]: --preprocess resise=3: there is no stage `resise`")


def test_usage_is_told_without_numpy_and_pillow() -> None:
    code = "import sys, mlconv.checks.data_options; sys.exit(bool({'numpy', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


CORAL = "google-coral_test_data"


@pytest.mark.framework("ai_edge_litert")
@pytest.mark.filterwarnings("ignore")  # LiteRT warns of its own future
@pytest.mark.parametrize(
    ("name", "preprocess"),
    [
        ("mobilenet_v1_0.25_128_quant", "resize"),
        ("mobilenet_v2_1.0_224_quant", "resize"),
        ("mobilenet_v2_1.0_224_quant", "resize,-1..1"),
        ("tf2_mobilenet_v2_1.0_224_ptq", "resize,-1..1"),
    ],
)
def test_public_classifiers_see_the_cat(name: str, preprocess: str, models: Path) -> None:
    from mlconv.runners.litert import open_runner

    path = models / CORAL / f"{name}.tflite"
    runner = open_runner(ModelFile(path.name, path, "tflite"), Options())
    cat = models / CORAL / "mobilenet_v1_0.25_128_quant.tflite.ref" / "cat.bmp"
    data = open_data(Options(data=str(cat), preprocess=preprocess), runner.inputs, {})
    (scores,) = runner.run(next(data.samples).feeds).values()
    assert int(np.argmax(scores)) == 286  # Egyptian cat, in the labels of 1001 classes
