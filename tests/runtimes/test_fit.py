"""`--runtime` before and after a conversion: which versions are chosen, what is refused, what a check says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mlconv import schemas
from mlconv.convert.job import Options
from mlconv.errors import OptionNotAccepted, RuntimeLacksOperator, UnknownRuntime, UnsupportedOpset
from mlconv.formats import ModelFile
from mlconv.runtimes import table
from mlconv.runtimes.fit import assert_fits, findings, fit, with_versions, within

RunCli = Callable[..., Any]  # conftest.run_cli


def write(path: Path, *names: str, opset: int, ir_version: int = 8, kind: int = TensorProto.FLOAT) -> Path:
    """A chain of operators of one input, from ``x`` to ``y``."""
    values = ["x", *(f"v{index}" for index in range(len(names) - 1)), "y"]
    nodes = [helper.make_node(name, [values[i]], [values[i + 1]]) for i, name in enumerate(names)]
    put, out = (helper.make_tensor_value_info(name, kind, [1, 3, 4, 4]) for name in ("x", "y"))
    out.type.tensor_type.ClearField("shape")
    model = helper.make_model(
        helper.make_graph(nodes, "g", [put], [out]),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=ir_version,
    )
    path.write_bytes(model.SerializeToString())
    return path


def chosen(source: ModelFile, runtime: str, **options: Any) -> int | None:
    return with_versions(Options(runtime=runtime, **options), source, "onnx").opset


def onnx_source(path: Path) -> ModelFile:
    return ModelFile(str(path), path, "onnx")


# ------------------------------------------------------------------ before


def test_without_a_runtime_nothing_is_chosen(tmp_path: Path) -> None:
    options = Options()
    assert with_versions(options, ModelFile("net.py:make", None, "torch-module"), "onnx") is options


@pytest.mark.parametrize(("runtime", "opset"), [("onnxruntime==1.12", 17), ("onnxruntime==1.14", 18), ("onnxruntime==1.31", 18),
                                                ("openvino==2025.4", 18), ("tensorrt==8.2", 13)])  # fmt: skip
def test_a_source_without_an_opset_gets_18_or_the_newest_below(runtime: str, opset: int) -> None:
    assert chosen(ModelFile("net.py:make", None, "torch-module"), runtime) == opset


def test_half_precision_stays_below_the_opset_at_which_a_release_refuses_it() -> None:
    module = ModelFile("net.py:make", None, "torch-module")
    assert chosen(module, "onnxruntime==1.16", precision="fp16") == 17
    assert chosen(module, "onnxruntime==1.17", precision="fp16") == 18


@pytest.mark.parametrize(
    ("names", "own", "runtime", "opset"),
    [
        (["Relu"], 17, "onnxruntime==1.17", None),
        (["Relu"], 11, "onnxruntime==1.17", None),
        (["Relu"], 23, "onnxruntime==1.17", 20),
        (["GlobalAveragePool"], 22, "onnxruntime==1.20", 21),
        (["Identity"], 19, "onnxruntime==1.15", 18),  # it loads opset 19, and has no kernel of Identity 19
        (["Identity"], 19, "onnxruntime==1.16", None),
        (["Mish"], 22, "onnxruntime==1.12", 17),  # newer than opset 17: replaced by what it is a function of
    ],
)
def test_an_onnx_source_keeps_its_opset_or_gets_the_newest_that_the_runtime_can_do(
    names: list[str], own: int, runtime: str, opset: int | None, tmp_path: Path
) -> None:
    assert chosen(onnx_source(write(tmp_path / "m.onnx", *names, opset=own)), runtime) == opset


def test_an_opset_that_the_runtime_does_not_load_is_refused_with_the_newest(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOpset) as caught:
        chosen(ModelFile("net.py:make", None, "torch-module"), "onnxruntime==1.17", opset=21)
    assert caught.value.what == "--opset 21: onnxruntime 1.17 loads none newer than 20"
    assert caught.value.fix == "--opset 20, or leave --opset out"


def test_an_opset_that_was_asked_for_is_kept_where_the_runtime_loads_it() -> None:
    assert chosen(ModelFile("net.py:make", None, "torch-module"), "onnxruntime==1.17", opset=15) == 15


@pytest.mark.parametrize(
    ("runtime", "why"),
    [
        (
            "onnxruntime==1.15",
            "it loads version 5 of the ORT format, and onnxruntime has written 6 since 1.16",
        ),
        ("openvino==2025.4", "openvino 2025.4 loads no such files"),
    ],
)
def test_an_ort_file_for_a_runtime_that_does_not_load_it_is_refused(runtime: str, why: str) -> None:
    with pytest.raises(OptionNotAccepted) as caught:
        with_versions(Options(runtime=runtime), ModelFile("net.onnx", Path("net.onnx"), "onnx"), "ort")
    assert caught.value.what == f"`--runtime {runtime}` cannot be met by an ORT file"
    assert (caught.value.why, caught.value.fix) == (why, f"mlconv onnx net.onnx --runtime {runtime}")


def test_limits_are_those_of_both_the_installed_and_the_wanted_runtime() -> None:
    assert within((26, 13), "onnxruntime==1.17") == (20, 9)
    assert within((19, 9), "onnxruntime==1.20") == (19, 9)
    assert within((26, 13), "openvino==2025.4") == (26, 13)
    assert within((26, 13), None) == (26, 13)


# ------------------------------------------------------------------ after


def test_a_file_that_fits_is_told_with_its_versions_and_the_source_of_the_table(tmp_path: Path) -> None:
    told = assert_fits("onnxruntime==1.17.1", *(2 * [write(tmp_path / "m.onnx", "Relu", opset=18)])).to_json(
        "onnxruntime==1.17.1"
    )
    assert told["ok"]
    assert (told["asked"], told["name"], told["release"], told["measured"]) == (
        "onnxruntime==1.17.1", "onnxruntime", "1.17", "1.17.3",
    )  # fmt: skip
    assert (told["opset"], told["ir_version"], told["newest_opset"], told["newest_ir_version"]) == (
        18,
        8,
        20,
        9,
    )
    assert "runtime_tables.py" in told["source"]


def test_all_operators_that_are_not_there_are_named_with_what_to_do(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", "Gelu", "Relu", "HardSwish", "GlobalAveragePool", opset=22)
    with pytest.raises(RuntimeLacksOperator) as caught:
        assert_fits("onnxruntime==1.16", path, path)
    assert caught.value.what == (
        "onnxruntime 1.16 lacks 3 operators of the model at opset 22: `Gelu` 20 (since onnxruntime 1.17), "
        "`GlobalAveragePool` 22 (since onnxruntime 1.21; it has version 1), `HardSwish` 22 (since onnxruntime 1.21; it has version 14)"
    )
    assert caught.value.fix == "--opset 19; or a newer runtime: --runtime onnxruntime==1.21"


def test_an_older_opset_is_offered_only_where_it_brings_the_type_too(tmp_path: Path) -> None:
    """onnxruntime 1.17 has Softmax of opset 13 and Conv of every opset, and convolves no doubles at any of them."""
    nodes = [helper.make_node("Conv", ["x", "x"], ["c"]), helper.make_node("GlobalAveragePool", ["c"], ["y"])]
    puts = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, [1, 1, 4, 4]) for name in ("x", "y")]
    puts[1].type.tensor_type.ClearField("shape")
    model = helper.make_model(
        helper.make_graph(nodes, "g", puts[:1], puts[1:]), opset_imports=[helper.make_opsetid("", 18)]
    )
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(RuntimeLacksOperator) as caught:
        assert_fits("onnxruntime==1.17", tmp_path / "m.onnx", tmp_path / "m.onnx")
    assert "`Conv` 11 (not for double)" in caught.value.what
    assert "--opset" not in caught.value.fix


def test_a_defect_of_a_release_is_cured_by_the_opset_before_it(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", "Softmax", opset=18, kind=TensorProto.FLOAT16)
    with pytest.raises(RuntimeLacksOperator) as caught:
        assert_fits("onnxruntime==1.16", path, path)
    assert caught.value.fix == "--opset 17; or a newer runtime: --runtime onnxruntime==1.17"


def test_where_no_release_has_them_the_model_has_to_change(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", "Erf", opset=18)
    with pytest.raises(RuntimeLacksOperator) as caught:
        assert_fits("ort-web-webgl==1.20", path, path)
    assert caught.value.why == "per docs/webgl-operators.md of the npm package onnxruntime-web 1.20.1"
    assert caught.value.fix.startswith("cut the model before them with --outputs")


def test_a_check_tells_versions_and_operators_apart(tmp_path: Path) -> None:
    lines = findings(write(tmp_path / "m.onnx", "Relu", opset=21, ir_version=10), "onnxruntime==1.17")
    assert lines == [
        ("onnxruntime 1.17: versions", False,
         "opset 21 is newer than onnxruntime 1.17 loads (20); IR version 10 is newer than onnxruntime 1.17 loads (9)"),
        ("onnxruntime 1.17: operators", True, "it has all of them, per the kernels of onnxruntime 1.17.3"),
    ]  # fmt: skip


def test_a_list_that_tells_no_versions_makes_no_verdict_on_them(tmp_path: Path) -> None:
    lines = findings(write(tmp_path / "m.onnx", "Relu", opset=18), "ort-web-webgl==1.20")
    assert lines[0] == ("ort-web-webgl 1.20: versions", None, "its list tells none")


@pytest.mark.framework("onnxruntime")
def test_an_ort_file_is_held_against_the_format_that_the_runtime_loads(tmp_path: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "m.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(str(write(tmp_path / "m.onnx", "Relu", opset=18)), options)
    assert fit(tmp_path / "m.ort", table.find("onnxruntime==1.16")).ok
    assert fit(tmp_path / "m.ort", table.find("onnxruntime==1.15")).versions == (
        "it is an ORT file, and onnxruntime 1.15 loads version 5 of that format, not 6",
    )


# ------------------------------------------------------------------ the commands


@pytest.mark.framework("onnxruntime")
def test_an_artifact_has_the_opset_and_the_ir_version_of_its_runtime(tmp_path: Path, run_cli: RunCli) -> None:
    write(tmp_path / "m.onnx", "Gelu", "HardSwish", opset=22, ir_version=10)
    ran = run_cli("--json", "onnx", "m.onnx", "--runtime", "onnxruntime==1.16", cwd=tmp_path)
    assert ran.code == 0, ran
    written = onnx.load(tmp_path / "m.opset19.onnx")
    assert [entry.version for entry in written.opset_import if not entry.domain] == [19]
    assert written.ir_version <= 9
    assert "Gelu" not in {node.op_type for node in written.graph.node}  # came with opset 20
    record = json.loads((tmp_path / "m.opset19.onnx.mlconv.json").read_text())
    assert record["checks"]["runtime"]["asked"] == "onnxruntime==1.16"
    assert record["checks"]["runtime"]["opset"] == 19
    jsonschema.validate(ran.document, schemas.schema("convert"), jsonschema.Draft202012Validator)
    assert ran.document["checks"]["runtime"] == record["checks"]["runtime"]


def test_operators_that_no_opset_helps_with_are_refused_before_anything_runs(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", "Gelu", "Erf", opset=20)
    with pytest.raises(RuntimeLacksOperator) as caught:
        chosen(onnx_source(path), "ort-web-webgl==1.20")
    assert "`Erf` 13 (in no release of ort-web-webgl known here)" in caught.value.what
    assert "Gelu" not in caught.value.what  # replaced by others at an older opset
    assert chosen(onnx_source(path), "ort-web-webgl==1.20", outputs=("v0",)) is None


@pytest.mark.framework("onnxruntime")
def test_an_operator_that_the_runtime_lacks_ends_the_conversion_and_writes_nothing(
    tmp_path: Path, run_cli: RunCli
) -> None:
    deformed = helper.make_node("DeformConv", ["x", "w", "o"], ["y"], pads=[1, 1, 1, 1])
    weights = helper.make_tensor("w", TensorProto.FLOAT, [2, 3, 3, 3], np.ones(54, np.float32))
    puts = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
        for n, s in {"x": [1, 3, 4, 4], "o": [1, 18, 4, 4]}.items()
    ]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 4, 4])
    graph = helper.make_graph([deformed], "g", puts, [out], [weights])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9),
        tmp_path / "m.onnx",
    )
    ran = run_cli("--json", "onnx", "m.onnx", "--runtime", "onnxruntime==1.17", cwd=tmp_path)
    assert ran.code == 4, ran
    assert ran.document["id"] == "MLC220"
    assert ran.document["hint"] == "a newer runtime: --runtime onnxruntime==1.25"
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.framework("onnxruntime")
def test_check_says_what_the_runtime_cannot_and_the_hint_mends_it(tmp_path: Path, run_cli: RunCli) -> None:
    write(tmp_path / "m.onnx", "GlobalAveragePool", opset=22, ir_version=10)
    ran = run_cli("check", "m.onnx", "--runtime", "onnxruntime==1.17", cwd=tmp_path)
    assert ran.code == 1, ran
    assert "FAILED  onnxruntime 1.17: operators  it lacks `GlobalAveragePool` 22" in ran.out
    hint = next(line for line in ran.err.splitlines() if line.startswith("hint: "))
    words = hint.removeprefix("hint: mlconv ").partition(" writes ")[0].split()
    assert run_cli(*words, cwd=tmp_path).code == 0
    assert run_cli("check", "m.opset20.onnx", "--runtime", "onnxruntime==1.17", cwd=tmp_path).code == 0


def test_an_unknown_runtime_is_refused_before_anything_runs(tmp_path: Path, run_cli: RunCli) -> None:
    write(tmp_path / "m.onnx", "Relu", opset=18)
    for command in ("onnx", "check"):
        ran = run_cli("--json", command, "m.onnx", "--runtime", "onnxruntme==1.17", cwd=tmp_path)
        assert (ran.code, ran.document["id"]) == (2, UnknownRuntime.id), ran


@pytest.mark.framework("onnxruntime")
def test_a_version_beyond_the_table_is_a_warning(tmp_path: Path, run_cli: RunCli) -> None:
    write(tmp_path / "m.onnx", "Relu", opset=18)
    for command in ("onnx", "check"):
        ran = run_cli("--json", command, "m.onnx", "--runtime", "onnxruntime==1.99", cwd=tmp_path)
        assert ran.code == 0, ran
        assert [
            text
            for text in ran.document["warnings"]
            if text.startswith("mlconv has no table of onnxruntime 1.99")
        ]


# ------------------------------------------------------------------ known wrong kernels


def pool(path: Path, opset: int, **attributes: Any) -> Path:
    node = helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2], **attributes)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, *size]) for name, size in (("x", (5, 6)), ("y", (3, 3))))  # fmt: skip
    graph = helper.make_graph([node], "g", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


@pytest.mark.parametrize(
    ("runtime", "opset", "attributes", "mended"),
    [
        ("onnxruntime==1.16", 18, {"ceil_mode": 1, "count_include_pad": 1}, "1.29"),
        ("onnxruntime==1.28", 11, {"ceil_mode": 1, "count_include_pad": 1}, "1.29"),
        ("ort-web==1.17", 18, {"ceil_mode": 1, "count_include_pad": 1}, None),
        ("onnxruntime==1.20", 19, {"ceil_mode": 1, "count_include_pad": 1}, "1.21"),
        ("onnxruntime==1.22", 19, {"count_include_pad": 1, "pads": [0, 0, 1, 1]}, "1.25"),
        ("onnxruntime==1.22", 19, {"count_include_pad": 1, "auto_pad": "SAME_LOWER"}, "1.25"),
    ],
)
def test_a_kernel_that_is_known_to_compute_wrong_is_told_and_refuses_nothing(
    tmp_path: Path, runtime: str, opset: int, attributes: dict[str, Any], mended: str | None
) -> None:
    path = pool(tmp_path / "m.onnx", opset, **attributes)
    found = assert_fits(runtime, path, path)
    (warning,) = found.warnings
    assert "is known to compute wrong `AveragePool` with " in warning
    assert "(a node)" in warning
    assert [kernel["mended"] for kernel in found.to_json(runtime)["wrong_kernels"]] == [mended]
    name, ok, told = findings(path, runtime)[2]
    assert name.endswith(": results")
    assert ok is None
    assert "https://github.com/microsoft/onnxruntime/pull/" in told


@pytest.mark.parametrize(
    ("runtime", "opset", "attributes"),
    [
        ("onnxruntime==1.29", 18, {"ceil_mode": 1, "count_include_pad": 1}),
        ("onnxruntime==1.21", 19, {"ceil_mode": 1, "count_include_pad": 1}),
        ("onnxruntime==1.16", 18, {"ceil_mode": 1}),
        ("onnxruntime==1.16", 18, {"count_include_pad": 1}),
        ("onnxruntime==1.22", 19, {"count_include_pad": 1, "pads": [1, 1, 1, 1]}),
        ("onnxruntime==1.22", 18, {"count_include_pad": 1, "pads": [0, 0, 1, 1]}),
        ("openvino==2025.4", 18, {"ceil_mode": 1, "count_include_pad": 1}),
    ],
)
def test_right_kernels_are_not_warned_of(
    tmp_path: Path, runtime: str, opset: int, attributes: dict[str, Any]
) -> None:
    assert fit(pool(tmp_path / "m.onnx", opset, **attributes), table.find(runtime)).wrong == ()


@pytest.mark.framework("onnxruntime")
@pytest.mark.parametrize(
    ("opset", "attributes"),
    [
        (18, {"ceil_mode": 1, "count_include_pad": 1}),
        (19, {"ceil_mode": 1, "count_include_pad": 1}),
        (19, {"count_include_pad": 1, "pads": [0, 0, 1, 0]}),
    ],
)
def test_the_list_of_wrong_kernels_tells_the_installed_onnxruntime_right(
    tmp_path: Path, opset: int, attributes: dict[str, Any]
) -> None:
    import onnxruntime

    path = pool(tmp_path / "m.onnx", opset, **attributes)
    x = np.arange(30, dtype=np.float32).reshape(1, 1, 5, 6)
    found = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    # the last window holds one row of the picture, and with `pads` one of zeros that counts
    wanted = (24 + 25) / (4 if "pads" in attributes else 2)
    listed = fit(path, table.find(f"onnxruntime=={onnxruntime.__version__}")).wrong
    assert (found[0, 0, 2, 0] == pytest.approx(wanted)) == (not listed)
