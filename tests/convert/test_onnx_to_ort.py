"""ORT format: what the file and its list of operators hold, and that equal models give equal bytes."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from mlconv.convert.job import Options
from mlconv.convert.pipeline import Call, convert
from mlconv.errors import BadUsage, ConverterFailed, OutputExists, WrongFormat
from mlconv.formats import ort_file
from mlconv.formats.flatbuffer import FlatbufferError
from mlconv.result import Conversion

RunCli = Callable[..., Any]

pytestmark = pytest.mark.framework("onnxruntime")
x86 = pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"), reason="blocks of channels are x86's"
)


def save(path: Path, nodes: list[NodeProto], outputs: dict[str, list[Any]], **weights: np.ndarray) -> Path:
    """A model from `x` (1, 3, 8, 8), opset 17."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])
    puts = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "net", [x], puts, tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def weight(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two convolutions and both of their outputs: onnxruntime turns their layout round at two places."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="stem", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name="act"),
        helper.make_node("Conv", ["b", "v"], ["c"], name="head"),
        helper.make_node("GlobalAveragePool", ["c"], ["y"], name="pool"),
    ]
    return save(tmp_path / "net.onnx", nodes, {"b": [1, 32, 8, 8], "y": [1, 17, 1, 1]},
                w=weight(32, 3, 3, 3), v=weight(17, 32, 1, 1))  # fmt: skip


def to_ort(
    source: Path | str, output: str | None = None, *, force: bool = False, **options: Any
) -> Conversion:
    return convert(str(source), "ort", Options(samples=2, **options), Call(output, force))


def answers(path: Path | str, x: np.ndarray) -> list[np.ndarray]:
    import onnxruntime

    outputs: list[np.ndarray] = onnxruntime.InferenceSession(
        str(path), providers=["CPUExecutionProvider"]
    ).run(None, {"x": x})
    return outputs


def config(path: str, *, types: bool = False) -> tuple[dict[str, dict[int, set[str]]], Any]:
    """A list of operators as the build script of onnxruntime reads it."""
    from onnxruntime.tools.reduced_build_config_parser import parse_config

    required, filtered = parse_config(path, types)
    return required, filtered


def kinds(path: Path | str) -> set[tuple[str, str]]:
    return {(node.domain, node.op_type) for node in ort_file.load(Path(path)).graph.node}


# ------------------------------------------------------------------ what is written


def test_the_file_gives_the_source_s_answers_and_lies_with_its_list_and_record_alone(net: Path) -> None:
    conversion = to_ort(net)
    assert conversion.ok
    assert sorted(path.name for path in Path().iterdir()) == [
        "net.onnx", "net.ort", "net.ort.mlconv.json", "net.required_operators.config",
    ]  # fmt: skip
    assert conversion.artifact.files == ("net.ort", "net.required_operators.config")
    x = np.random.default_rng(1).random((1, 3, 8, 8), np.float32)
    for ours, theirs in zip(answers("net.ort", x), answers(net, x), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_the_document_tells_both_steps_and_what_was_shown_of_the_file(net: Path) -> None:
    document = to_ort(net).to_json()
    assert [(step["from"], step["to"], step["converter"]) for step in document["route"]] == [
        ("onnx", "onnx", "onnx-rewrite"), ("onnx", "ort", "onnxruntime"),
    ]  # fmt: skip
    assert document["route"][1]["versions"].keys() == {"onnxruntime"}
    assert document["artifact"]["format"] == "ort"
    assert document["artifact"]["opset"] == 17
    assert [put["name"] for put in document["artifact"]["outputs"]] == ["b", "y"]
    findings = {finding["name"]: finding for finding in document["checks"]["structure"]["findings"]}
    assert {"structure", "packed file", "signature"} <= findings.keys()
    assert "format version" in findings["packed file"]["detail"]
    assert document["checks"]["load"]["ok"]
    assert document["checks"]["parity"]["ok"]
    assert json.loads(Path("net.ort.mlconv.json").read_text())["artifact"] == document["artifact"]


def test_onnxruntime_s_build_script_reads_the_list(net: Path) -> None:
    to_ort(net, target_platform="arm")
    required, _ = config("net.required_operators.config")
    assert required == {
        "ai.onnx": {1: {"GlobalAveragePool"}, 11: {"Conv"}},
        "com.microsoft": {1: {"FusedConv"}},
    }
    assert Path("net.required_operators.config").read_text().splitlines()[0] == "# operators of net.ort"


def test_types_stand_in_the_list_where_they_are_asked_for(net: Path) -> None:
    to_ort(net, target_platform="arm", type_reduction=True)
    required, filtered = config("net.required_operators.config", types=True)
    assert required["ai.onnx"][11] == {"Conv"}
    assert filtered.is_typed_registration_needed("ai.onnx", "Conv", "float")
    assert not filtered.is_typed_registration_needed("ai.onnx", "Conv", "double")


def test_operators_within_branches_are_in_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    out = helper.make_tensor_value_info("t", TensorProto.FLOAT, None)
    branches = [
        helper.make_graph([helper.make_node(kind, ["x"], ["t"])], kind, [], [out]) for kind in ("Sin", "Cos")
    ]
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], keepdims=0),
        helper.make_node("Less", ["m", "half"], ["c"]),
        helper.make_node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1]),
    ]
    to_ort(save(tmp_path / "net.onnx", nodes, {"y": [1, 3, 8, 8]}, half=np.array(0.5, np.float32)))
    required, _ = config("net.required_operators.config")
    assert {"Sin", "Cos", "If"} <= set().union(*required["ai.onnx"].values())


def test_provenance_and_metadata_stand_in_the_file(net: Path, run_cli: RunCli) -> None:
    to_ort(net, metadata=(("team", "vision"),), target_platform="arm")
    told = run_cli("--json", "inspect", "net.ort", cwd=net.parent).document
    assert told["metadata"]["team"] == "vision"
    assert told["provenance"]["source"]["name"] == "net.onnx"
    assert told["provenance"]["converters"]["onnxruntime"]["target_platform"] == "arm"


def test_without_optimizing_the_operators_are_the_source_s(net: Path) -> None:
    to_ort(net, optimize=False)
    assert kinds("net.ort") == {("", "Conv"), ("", "Relu"), ("", "GlobalAveragePool")}


def test_the_opset_is_the_one_that_was_asked_for(net: Path) -> None:
    assert to_ort(net, opset=13).artifact.opset == 13


# ------------------------------------------------------------------ platforms


@x86
def test_on_x86_convolutions_are_laid_out_in_blocks_and_a_warning_says_where_that_is_wrong(net: Path) -> None:
    conversion = to_ort(net)
    assert ("com.microsoft.nchwc", "Conv") in kinds("net.ort")
    (warning,) = [warning for warning in conversion.warnings if "laid out" in warning]
    assert "--target-platform arm writes one for all" in warning
    assert "wrong answers" in warning


@x86
def test_a_file_for_arm_has_no_blocks_and_runs_here_and_the_evidence_says_where_it_ran(net: Path) -> None:
    conversion = to_ort(net, target_platform="arm")
    assert conversion.ok
    assert all(domain != "com.microsoft.nchwc" for domain, _ in kinds("net.ort"))
    (warning,) = conversion.warnings
    assert warning.startswith(f"written for arm and run here, on {platform.machine()}")


def test_another_platform_is_refused_before_anything_runs(net: Path) -> None:
    with pytest.raises(BadUsage, match="--target-platform x86: there are amd64 and arm"):
        to_ort(net, target_platform="x86")


# ------------------------------------------------------------------ the same bytes

PACK = """
import sys
from pathlib import Path
from mlconv.convert.onnx_to_ort import OrtPacker
folder = Path(sys.argv[1])
for platform in ("amd64", "arm"):
    made = folder / f"{platform}.ort"
    OrtPacker(platform, True, True).pack(folder / "net.onnx", made, (made.with_suffix(".config"),))
"""


def test_every_process_writes_the_same_bytes(net: Path) -> None:
    made = set()
    for _ in range(4):  # the seed of onnxruntime's hash tables is an address
        subprocess.run([sys.executable, "-c", PACK, str(net.parent)], check=True)
        made.add(
            tuple(path.read_bytes() for path in sorted((*Path().glob("*.ort"), *Path().glob("*.config"))))
        )
    assert [len(files) for files in made] == [4]


def test_two_conversions_give_the_same_bytes(net: Path) -> None:
    made = [
        (to_ort(net).artifact.sha256, Path("net.required_operators.config").read_bytes()) for _ in range(2)
    ]
    assert made[0] == made[1]


def raw(model: Path, output: Path) -> bytes:
    """ORT format as onnxruntime writes it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(output)
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return output.read_bytes()


def kernel_types(data: bytes) -> dict[str, dict[str, list[tuple[int, int]]]]:
    """The kernel type strings as onnxruntime's own bindings of the schema read them."""
    import onnxruntime.tools.ort_format_model  # noqa: F401  # it puts the bindings on the path
    from ort_flatbuffers_py.fbs.InferenceSession import InferenceSession

    told = InferenceSession.GetRootAs(bytearray(data), 0).KernelTypeStrResolver()
    found: dict[str, dict[str, list[tuple[int, int]]]] = {}
    for i in range(told.OpKernelTypeStrArgsLength()):
        operator = told.OpKernelTypeStrArgs(i)
        strings = [operator.KernelTypeStrArgs(j) for j in range(operator.KernelTypeStrArgsLength())]
        found[operator.OpId().decode()] = {
            string.KernelTypeStr().decode(): [(string.Args(k).ArgType(), string.Args(k).Index()) for k in range(string.ArgsLength())]
            for string in strings
        }  # fmt: skip
    return found


def test_putting_a_file_in_order_changes_no_content(net: Path) -> None:
    from mlconv.convert.ort_bytes import in_order

    data = raw(net, Path("raw.ort"))
    ordered = in_order(data)
    assert kernel_types(ordered) == kernel_types(data) != {}
    assert in_order(ordered) == ordered
    Path("ordered.ort").write_bytes(ordered)
    x = np.random.default_rng(1).random((1, 3, 8, 8), np.float32)
    for ours, theirs in zip(answers("ordered.ort", x), answers("raw.ort", x), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_cut_file_is_not_put_in_order(net: Path) -> None:
    from mlconv.convert.ort_bytes import in_order

    with pytest.raises(FlatbufferError):
        in_order(raw(net, Path("raw.ort"))[:90])


# ------------------------------------------------------------------ what cannot be done


def test_what_the_format_cannot_hold_is_refused(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlconv.convert import onnx_to_ort

    monkeypatch.setattr(onnx_to_ort, "_LIMIT_BYTES", 1000)
    with pytest.raises(ConverterFailed, match="holds less than 2 GiB"):
        onnx_to_ort.OrtPacker("arm", False, True).pack(net, Path("o.ort"), (Path("o.config"),))


def test_what_onnxruntime_does_not_load_is_told_in_its_words(tmp_path: Path) -> None:
    from mlconv.convert.onnx_to_ort import OrtPacker

    node = helper.make_node("Wobble", ["x"], ["y"], domain="strange")
    path = save(tmp_path / "net.onnx", [node], {"y": [1, 3, 8, 8]})
    with pytest.raises(ConverterFailed, match="does not load the ONNX graph") as caught:
        OrtPacker("arm", False, True).pack(path, tmp_path / "o.ort", (tmp_path / "o.config",))
    assert "strange" in (caught.value.why or "")


def test_an_ort_file_is_converted_to_nothing(net: Path) -> None:
    to_ort(net)
    with pytest.raises(WrongFormat, match="is ort, which is not converted to ort") as caught:
        to_ort("net.ort", "again.ort")
    assert "keras" in (caught.value.why or "")
    assert "coreml" not in (caught.value.why or "")


# ------------------------------------------------------------------ files of others


def test_the_list_of_an_earlier_conversion_is_replaced_with_its_artifact(net: Path) -> None:
    to_ort(net, opset=17, target_platform="arm")
    before = Path("net.required_operators.config").read_bytes()
    to_ort(net, opset=13, optimize=False)
    assert Path("net.required_operators.config").read_bytes() != before


def test_somebody_s_file_of_the_list_s_name_is_kept(net: Path) -> None:
    Path("net.required_operators.config").write_text("mine")
    with pytest.raises(OutputExists, match=r"net\.required_operators\.config` exists"):
        to_ort(net)
    assert Path("net.required_operators.config").read_text() == "mine"
    assert not Path("net.ort").exists()
    assert to_ort(net, force=True).ok
    assert "Conv" in Path("net.required_operators.config").read_text()


def test_two_models_in_one_folder_have_a_list_each(net: Path) -> None:
    to_ort(net, "a.ort")
    to_ort(net, "b.ort", optimize=False)
    assert Path("a.required_operators.config").read_text() != Path("b.required_operators.config").read_text()


# ------------------------------------------------------------------ the command


def test_the_command_prints_the_path_alone(net: Path, run_cli: RunCli) -> None:
    ran = run_cli("-q", "ort", "net.onnx", "--target-platform", "arm", cwd=net.parent)
    assert (ran.code, ran.out) == (0, "net.ort\n")
    assert [line for line in ran.err.splitlines() if not line.startswith("warning: written for arm")] == []
