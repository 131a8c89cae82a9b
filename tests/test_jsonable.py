"""Values cross to a worker as JSON and come back equal."""

import json
from pathlib import Path

from mlconv.convert.job import Job, Options
from mlconv.formats import ModelFile
from mlconv.input_grammar import parse_input
from mlconv.jsonable import from_json, to_json
from mlconv.tensors import Quantization, TensorSpec


def test_a_job_comes_back_equal() -> None:
    options = Options(
        input=(parse_input("x=batch,3,h=16..64/16@32:uint8[0..255]"), parse_input("scalar")),
        outputs=("a", "b"), metadata=(("team", "vision"),), opset=17, atol=1e-3,
    )  # fmt: skip
    job = Job(
        ModelFile("m.pt2", Path("m.pt2"), "torch-export"), "onnx", Path("out.onnx"), Path("scratch"), options
    )
    assert from_json(Job, json.loads(json.dumps(to_json(job)))) == job


def test_a_signature_comes_back_equal() -> None:
    spec = TensorSpec("x", (None, "h", 3), "int8", Quantization(0.5, -3), (0.0, 9.0))
    assert from_json(TensorSpec, json.loads(json.dumps(to_json(spec)))) == spec
    unranked = TensorSpec("x", None, "float32")
    assert from_json(TensorSpec, to_json(unranked)) == unranked


def test_keys_that_a_newer_version_added_are_ignored() -> None:
    assert from_json(Quantization, {"scale": 1, "zero_point": 2, "axis": 0}) == Quantization(1.0, 2)
