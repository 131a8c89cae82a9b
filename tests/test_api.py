"""The library's calls: their options, what they refuse, and how their values and errors show."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import onnx
import pytest

import mlconv
from mlconv import api
from mlconv.convert.job import Options
from mlconv.errors import BadUsage, OutputExists, ParityFailed, by_id
from mlconv.hints import in_python
from mlconv.result import Checked, CheckLine, Conversion
from mlconv.tensors import TensorSpec

OF_THE_LINE = {"quantize", "dequantize", "layout", "image", "labels", "target_isa"}
"""Options that no converter takes yet."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``y = x w``."""
    x, y = (
        onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, s]) for n, s in (("x", 4), ("y", 2))
    )
    w = onnx.numpy_helper.from_array(np.ones((4, 2), np.float32), "w")
    graph = onnx.helper.make_graph([onnx.helper.make_node("MatMul", ["x", "w"], ["y"])], "net", [x], [y], [w])
    path: Path = tmp_path_factory.mktemp("model") / "net.onnx"
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path
    )
    return path


@pytest.fixture(scope="module")
def conversion(model: Path) -> Conversion:
    return mlconv.to_onnx(model, model.with_name("made.onnx"), opset=20)


def test_every_option_of_a_conversion_is_a_keyword_of_the_library() -> None:
    keywords = {*get_type_hints(api.ConversionOptions), *inspect.signature(mlconv.to_ort).parameters}
    known = {"input": "inputs"}
    missing = {known.get(f.name, f.name) for f in fields(Options)} - keywords - OF_THE_LINE
    assert missing == set()


@pytest.mark.parametrize("function", [mlconv.to_onnx, mlconv.to_ort, mlconv.check, mlconv.compare])
def test_help_shows_each_keyword_with_its_default(function: Any) -> None:
    shown = inspect.signature(function).parameters
    assert all(parameter.kind is not inspect.Parameter.VAR_KEYWORD for parameter in shown.values())
    assert shown["seed"].default == 0
    assert shown["inputs"].default == ()
    assert ("opset" in shown) == (function in (mlconv.to_onnx, mlconv.to_ort))


def test_a_mistyped_keyword_is_told_the_nearest() -> None:
    with pytest.raises(
        TypeError, match=r"to_onnx\(\) got an unexpected keyword argument 'opsett'; did you mean 'opset'"
    ):
        mlconv.to_onnx("net.onnx", opsett=17)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"samples": 0}, "samples=0: the least is 1"),
        ({"seed": -1}, "seed=-1: the least is 0"),
        ({"precision": "fp8"}, "there are fp32 and fp16"),
        ({"inputs": "x=1,4"}, "inputs is a list of texts"),
        ({"outputs": "y"}, "outputs is a list of texts"),
    ],
)
def test_a_value_that_an_option_does_not_take_is_refused(
    model: Path, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadUsage, match=words):
        mlconv.to_onnx(model, model.with_name("never.onnx"), **given)
    assert not model.with_name("never.onnx").exists()


def test_importing_mlconv_imports_nothing_else() -> None:
    heavy = ("numpy", "onnx", "torch", "tensorflow", "keras", "onnxruntime", "typer")
    script = f"import sys, mlconv; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_no_submodule_bears_the_name_of_a_public_function() -> None:
    folder = Path(mlconv.__file__).parent
    modules = {path.stem for path in folder.iterdir()}
    functions = {name for name in mlconv.__all__ if name.islower() and not name.startswith("_")}
    assert functions
    assert functions.isdisjoint(modules)


# ------------------------------------------------------------------ verdicts and errors


def failed(conversion: Conversion) -> Conversion:
    return replace(
        conversion, ok=False, failure=ParityFailed("`y` differs", why="worst at [0]", fix="--atol 1")
    )


def test_a_verdict_is_an_exception_where_that_is_asked_for(conversion: Conversion) -> None:
    assert conversion.raise_for_verdict() is conversion
    with pytest.raises(ParityFailed, match="`y` differs"):
        failed(conversion).raise_for_verdict()


def test_an_error_shows_id_reason_and_hint_as_a_traceback_prints_it() -> None:
    error = OutputExists(
        "`a.onnx` exists", why="it is not mine", fix="--force to replace it, or -o with another name"
    )
    error.log = "kept.log"
    assert str(error).splitlines() == [
        "[MLC002] `a.onnx` exists",
        "  why: it is not mine",
        "hint: force=True to replace it, or output with another name",
        "log: kept.log",
    ]


@pytest.mark.parametrize("kind", by_id().values(), ids=by_id())
def test_an_error_crosses_between_processes(kind: type[mlconv.MlconvError]) -> None:
    there = kind("what", fix="fix", why="why", log="log")
    back = pickle.loads(pickle.dumps(there))
    assert (type(back), back.to_json()) == (kind, there.to_json())


@pytest.mark.parametrize(
    ("line", "python"),
    [
        ("--opset 20", "opset=20"),
        ("another --opset or --no-optimize may do", "another opset or optimize=False may do"),
        ("--input x=1,3,8,8", "inputs=['x=1,3,8,8']"),
        ("--input a=n=2..16 --input b=1", "inputs=['a=n=2..16', 'b=1']"),
        ("--outputs y,z", "outputs=['y', 'z']"),
        ("leave --outputs out", "leave outputs out"),
        ("--trust-pickle, if you know who made it; or give --module REF", "trust_pickle=True, if you know who made it; or give module='REF'"),
        ("--timeout 60, or a smaller model", "limits=mlconv.Limits(60), or a smaller model"),
        ("--memory 4, or a machine", "limits=mlconv.Limits(bytes=4 * 2**30), or a machine"),
        ("-o out/net.onnx", "output='out/net.onnx'"),
        ("mlconv check a.onnx --module b.py:c", "mlconv check a.onnx --module b.py:c"),
        ("pip install --no-deps tf_keras", "pip install --no-deps tf_keras"),
        ("--bisect names the operator", "--bisect names the operator"),
        ("--input 'ids=1,4:int64[0..9]'", "inputs=['ids=1,4:int64[0..9]']"),
        ("--input 'a=1,4:int64[0..9]' --input b=1", "inputs=['a=1,4:int64[0..9]', 'b=1']"),
    ],
)  # fmt: skip
def test_a_hint_is_told_in_keywords(line: str, python: str) -> None:
    assert in_python(line) == python


# ------------------------------------------------------------------ how values show


def test_a_result_is_one_line_at_a_prompt(model: Path, conversion: Conversion) -> None:
    made = repr(conversion)
    assert made.startswith(f"<Conversion ok: {model} -> ")
    assert "parity ok" in made
    assert "FAILED" in repr(failed(conversion))
    assert "[MLC310] `y` differs" in repr(failed(conversion))
    assert repr(mlconv.inspect(model)) == f"<Inspected {model} (onnx): x 1,4:float32 -> y 1,2:float32>"
    assert repr(mlconv.compare(model, model)).startswith(f"<Compared ok: {model} against {model}; parity ok")
    assert repr(mlconv.check(model)) == f"<Checked ok: {model} (onnx)>"
    broken = Checked("a.onnx", "onnx", (CheckLine("load", False, "no such operator"),), (), 0.1)
    assert repr(broken) == "<Checked FAILED: a.onnx (onnx); load: no such operator>"


def test_a_notebook_shows_a_table_that_loads_nothing(model: Path, conversion: Conversion) -> None:
    for value in (conversion, mlconv.check(model), mlconv.compare(model, model), mlconv.inspect(model)):
        page = value._repr_html_()
        assert page.count("<div") == page.count("</div>")
        assert page.count("<tr") == page.count("</tr>") > 0
        assert not any(word in page for word in ("http", "<script", "<style", "<link", "src=", "url("))
    assert "x  1,4:float32" in conversion._repr_html_()
    assert "FAILED" not in conversion._repr_html_()
    assert "[MLC310]" in failed(conversion)._repr_html_()
    assert "why: worst at [0]" in failed(conversion)._repr_html_()


def test_no_name_of_a_model_becomes_markup(conversion: Conversion) -> None:
    evil = "<img src=x onerror=alert(1)>\"'&"
    source = replace(conversion.source, ref=evil, format=evil)
    specs = (TensorSpec(evil, (evil, 2), "float32"),)
    parity = conversion.checks["parity"]
    row = {**parity["outputs"][0], "name": evil, "fault": evil}
    hostile = replace(
        conversion, source=source, artifact=replace(conversion.artifact, path=evil, inputs=specs, outputs=specs),
        checks={**conversion.checks, "parity": {**parity, "outputs": [row], "reference": evil, "notes": [evil]}},
        warnings=(evil,), failure=ParityFailed(evil, why=evil, fix=evil),
    )  # fmt: skip
    checked = Checked(evil, evil, (CheckLine(evil, None, evil),), (evil,), 0.1)
    for page in (hostile._repr_html_(), checked._repr_html_()):
        assert "<img" not in page
        assert "&lt;img src=x onerror=alert(1)&gt;" in page
