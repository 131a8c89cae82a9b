"""One conversion from the call to the file in its place, on ONNX models built here."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlconv import registry, tested
from mlconv.convert import origin, pipeline
from mlconv.convert.job import Options
from mlconv.convert.pipeline import Call, convert
from mlconv.errors import (
    BadUsage,
    ConverterFailed,
    Crashed,
    OptionNotAccepted,
    OutputExists,
    OutputIsSource,
    ParityFailed,
    TimedOut,
    Unreadable,
    UnsupportedOperator,
)
from mlconv.formats import ModelFile
from mlconv.input_grammar import parse_input
from mlconv.model import identify
from mlconv.registry import Converter
from mlconv.worker import Limits

RunCli = Callable[..., Any]

JOBS = '''
import os, shutil, time
from dataclasses import replace
from mlconv.convert.job import Converted
from mlconv.errors import UnsupportedOperator
from mlconv.runners.onnx_session import OnnxSession

def refuse(job):
    raise UnsupportedOperator("1 operator of the model has no ONNX form: Wobble (#3)", fix="cut it off")

def crash(job):
    raise KeyError("strange")

def die(job):
    os.abort()

def meddle(job):
    """A source that something writes to while it is read."""
    converted = copy(job)
    with open(job.source.path, "ab") as file:
        file.write(b"\x32\x01x")  # another doc_string
    return converted

def noisy(job):
    """The first step of a route: tf2onnx's names differ from run to run."""
    return replace(copy(job), packages=("tf2onnx",), warnings=["first", "both"])

def late(job):
    return replace(copy(job), warnings=["second", "both"])

def nap(job):
    time.sleep(1.5)
    raise UnsupportedOperator("no", fix="no")

def copy(job):
    shutil.copyfile(job.source.path, job.output)
    runner = OnnxSession(job.source.path)
    return Converted(runner.inputs, runner.outputs, runner, "the copier", ("onnx",))

def wrong(job):
    """A converter that loses a sign."""
    import onnx
    model = onnx.load(job.source.path)
    model.graph.node[0].op_type = "Relu" if model.graph.node[0].op_type == "Identity" else "Identity"
    onnx.save(model, job.output)
    runner = OnnxSession(job.source.path)
    return Converted(runner.inputs, runner.outputs, runner, "the forger", ("onnx",))
'''


def save(path: Path, nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray] | None = None) -> Path:
    """A model from `x` (batch, 4) to `y`, opset 17."""
    tensors = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "net", [x], [y], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def net(tmp_path: Path) -> Path:
    weight = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    nodes = [helper.make_node("Identity", ["x"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]
    return save(tmp_path / "net.onnx", nodes, {"w": weight})


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``jobs("refuse", "copy")``: converters from ONNX to ONNX of these kinds, in that order, instead of ours."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "pipeline_jobs.py").write_text(JOBS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "jobs"), prepend=":")
    monkeypatch.chdir(tmp_path)

    def use(*names: str) -> None:
        table = [
            Converter(name, "onnx", "onnx", f"pipeline_jobs:{name}", cost=i) for i, name in enumerate(names)
        ]
        monkeypatch.setattr(registry, "converters", lambda: tuple(table))

    return use


def test_a_route_that_fails_hands_over_to_the_next_and_the_record_keeps_the_attempt(
    net: Path, jobs: Callable[..., None]
) -> None:
    jobs("refuse", "copy")
    conversion = convert(str(net), "onnx", Options(), Call("out.onnx"))
    assert conversion.ok
    (step,) = json.loads(Path("out.onnx.mlconv.json").read_text())["route"]
    assert (step["converter"], step["exporter"]) == ("copy", "the copier")
    assert step["attempts"] == [
        {
            "converter": "refuse",
            "error": "MLC214",
            "what": "1 operator of the model has no ONNX form: Wobble (#3)",
        }
    ]


def test_where_no_route_works_the_first_error_is_told_with_the_others(
    net: Path, jobs: Callable[..., None]
) -> None:
    jobs("refuse", "crash")
    with pytest.raises(UnsupportedOperator, match="Wobble") as caught:
        convert(str(net), "onnx", Options(), Call("out.onnx"))
    assert caught.value.why is not None
    assert "tried next: `crash`" in caught.value.why
    assert sorted(path.name for path in Path().iterdir()) == ["jobs", "net.onnx"]


def test_an_exception_of_a_converter_is_its_failure_with_its_own_line(
    net: Path, jobs: Callable[..., None]
) -> None:
    jobs("crash")
    with pytest.raises(ConverterFailed, match="`crash` could not convert") as caught:
        convert(str(net), "onnx", Options(), Call("out.onnx"))
    assert caught.value.why == "KeyError: 'strange'"


def test_an_option_that_no_converter_takes_is_refused_by_the_converter_s_name(
    net: Path, jobs: Callable[..., None]
) -> None:
    jobs("copy")
    with pytest.raises(OptionNotAccepted, match="`--signature` means nothing to `copy`"):
        convert(str(net), "onnx", Options(signature="s"), Call("out.onnx"))


def test_a_converter_that_is_wrong_is_caught_and_nothing_is_written(
    net: Path, jobs: Callable[..., None]
) -> None:
    jobs("wrong")
    conversion = convert(str(net), "onnx", Options(), Call("out.onnx"))
    assert isinstance(conversion.failure, ParityFailed)
    assert not conversion.artifact.written
    assert not Path("out.onnx").exists()
    assert not Path("out.onnx.mlconv.json").exists()


def test_what_is_wrong_is_written_where_the_user_insists_and_the_record_says_so(
    net: Path, jobs: Callable[..., None]
) -> None:
    jobs("wrong")
    conversion = convert(str(net), "onnx", Options(), Call("out.onnx", write_anyway=True))
    assert not conversion.ok
    assert json.loads(Path("out.onnx.mlconv.json").read_text())["ok"] is False
    assert Path("out.onnx").exists()


def test_another_stranger_s_interpreter_needs_no_mlconv(
    net: Path, jobs: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    jobs("copy")
    (copier,) = registry.converters()
    other = Converter("copy", "onnx", "onnx", copier.run, python="COPIER")
    monkeypatch.setattr(registry, "converters", lambda: (other,))
    monkeypatch.setenv("MLCONV_PYTHON_COPIER", sys.executable)
    assert convert(str(net), "onnx", Options(), Call("out.onnx")).ok


# ------------------------------------------------------------------ routes


def test_a_crash_hands_over_to_the_next_route(net: Path, jobs: Callable[..., None]) -> None:
    jobs("die", "copy")
    conversion = convert(str(net), "onnx", Options(), Call("out.onnx"))
    (attempt,) = conversion.route[0].attempts
    assert (attempt.converter, attempt.error) == ("die", "MLC703")


def test_where_the_only_route_crashes_that_is_told(net: Path, jobs: Callable[..., None]) -> None:
    jobs("die")
    with pytest.raises(Crashed, match="SIGABRT"):
        convert(str(net), "onnx", Options(), Call("out.onnx"))


def test_what_each_step_of_a_route_warns_of_is_told_and_noise_in_names_is_remembered(
    net: Path, jobs: Callable[..., None], tmp_path: Path
) -> None:
    jobs("late", "noisy")
    first, second = registry.converters()
    call = Call(limits=Limits())
    made = pipeline._walk((first, second), identify(str(net)), Options(parity=False), call, tmp_path, ())
    assert made.sourced.warnings == ("second", "both", "first")
    assert not made.sourced.stable_names
    assert [step.converter for step in made.steps] == ["late", "noisy"]


def test_the_time_limit_is_the_whole_conversion_s(net: Path, jobs: Callable[..., None]) -> None:
    jobs("nap", "nap", "nap", "nap")
    with pytest.raises(TimedOut, match="time limit of 4 s"):
        convert(str(net), "onnx", Options(), Call("out.onnx", limits=Limits(seconds=4)))


# ------------------------------------------------------------------ finishing

FINISHERS = """
import os
from mlconv.convert.finish_job import finish as real

def die_on_the_simplified(payload):
    if payload["options"]["optimize"]:
        open(payload["output"], "w").write("half")
        os.abort()
    return real(payload)

def die(payload):
    os.abort()
"""


@pytest.fixture
def finisher(
    jobs: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], None]:
    """``finisher("die")``: this job finishes graphs, in a worker as ours does."""
    (tmp_path / "jobs" / "pipeline_finishers.py").write_text(FINISHERS)

    def use(name: str) -> None:
        jobs("copy")
        finishing = pipeline._Finishing(f"pipeline_finishers:{name}", ())
        monkeypatch.setattr(pipeline, "_FINISHING", {"onnx": finishing})

    return use


def test_a_crash_on_the_simplified_graph_hands_over_to_the_plain_one_and_is_told(
    net: Path, finisher: Callable[[str], None]
) -> None:
    finisher("die_on_the_simplified")
    conversion = convert(str(net), "onnx", Options(), Call("out.onnx"))
    assert conversion.ok
    (warning,) = conversion.warnings
    assert (
        warning
        == "the worker was killed by SIGABRT: native code crashed on the simplified graph, so the plain one was kept, not optimized"
    )
    assert [node.op_type for node in onnx.load("out.onnx").graph.node] == ["Identity", "MatMul"]


def test_a_crash_on_the_plain_graph_is_the_end(net: Path, finisher: Callable[[str], None]) -> None:
    finisher("die")
    with pytest.raises(Crashed, match="SIGABRT"):
        convert(str(net), "onnx", Options(), Call("out.onnx"))
    assert not Path("out.onnx").exists()


def test_a_packed_artifact_that_is_wrong_is_caught_and_neither_it_nor_its_list_is_written(
    net: Path, jobs: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs("wrong")
    table = (*registry.converters(), *(converter for converter in registry.CONVERTERS if converter.packs))
    monkeypatch.setattr(registry, "converters", lambda: table)
    conversion = convert(str(net), "ort", Options(), Call("out.ort"))
    assert isinstance(conversion.failure, ParityFailed)
    assert [step.converter for step in conversion.route] == ["wrong", "onnxruntime"]
    assert sorted(path.name for path in Path().iterdir()) == ["jobs", "net.onnx"]


# ------------------------------------------------------------------ options that nobody takes


@pytest.mark.parametrize(
    ("target", "options", "what", "why"),
    [
        ("onnx", Options(quantize="int8"), "`--quantize` means", "what is quantized in the source stays quantized"),
        ("ort", Options(dequantize=True), "`--dequantize` means", "what is quantized in the source stays quantized"),
        ("onnx", Options(layout=("x=NHWC",)), "`--layout` means", "keep the layout that they have in the source"),
        ("onnx", Options(signature="s"), "`--signature` means", "`--signature` is for sources of saved-model, tflite, torch-export"),
        ("onnx", Options(target_platform="arm"), "`--target-platform` means", "`--target-platform` is for mlconv ort"),
        ("onnx", Options(target_isa="portable"), "`--target-isa` means", "`--target-isa` is for sources of tflite"),
        ("onnx", Options(tag="t", type_reduction=True), "`--tag`, `--type-reduction` mean", "`--tag` is for sources of saved-model"),
    ],
)  # fmt: skip
def test_an_option_that_means_nothing_is_refused_with_who_takes_it(
    net: Path, target: str, options: Options, what: str, why: str
) -> None:
    with pytest.raises(OptionNotAccepted) as caught:
        convert(str(net), target, options, Call())
    assert what in caught.value.what
    assert why in (caught.value.why or "")


def test_a_processor_that_is_none_is_refused_before_anything_runs(net: Path) -> None:
    with pytest.raises(BadUsage, match="--target-isa sse: there are `vnni`, `avx2`") as caught:
        convert(str(net), "onnx", Options(target_isa="sse"), Call())
    assert "portable for any processor" in (caught.value.fix or "")


# ------------------------------------------------------------------ sources


def test_a_version_that_was_never_tested_is_told_in_the_record(
    net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tested.TESTED, "onnx", "0.9.0")
    conversion = convert(str(net), "onnx", Options(), Call(str(tmp_path / "out.onnx")))
    told = f"tested with onnx 0.9.0; yours is {onnx.__version__}"
    assert told in conversion.warnings
    assert told in json.loads((tmp_path / "out.onnx.mlconv.json").read_text())["warnings"]


@pytest.mark.parametrize(
    ("target", "name", "named"), [("onnx", "a b.tflite", "'a b.onnx'"), ("ort", "out.onnx", "out.ort")]
)
def test_no_format_is_written_under_the_suffix_of_another(
    net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, name: str, named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadUsage, match="is the suffix of another format") as caught:
        convert(str(net), target, Options(), Call(name))
    assert caught.value.fix == f"-o {named}"


def test_a_source_that_changes_meanwhile_is_refused(net: Path, jobs: Callable[..., None]) -> None:
    jobs("meddle")
    with pytest.raises(Unreadable, match=r"net\.onnx` changed while it was converted"):
        convert(str(net), "onnx", Options(), Call("out.onnx"))
    assert not Path("out.onnx").exists()


def test_models_of_one_name_in_two_folders_do_not_replace_each_other_s_artifact(
    net: Path, jobs: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs("copy")
    out = str(tmp_path / "out.onnx")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "net.onnx").write_bytes(net.read_bytes())
    monkeypatch.chdir(tmp_path / "a")
    for _ in range(2):  # its own it may replace
        assert convert("net.onnx", "onnx", Options(), Call(out)).ok
    monkeypatch.chdir(tmp_path / "b")
    with pytest.raises(OutputExists):
        convert("net.onnx", "onnx", Options(), Call(out))
    record = json.loads((tmp_path / "out.onnx.mlconv.json").read_text())
    assert str(tmp_path) not in record["identity"]


def test_a_source_that_was_trained_again_in_its_place_replaces_its_artifact(
    net: Path, jobs: Callable[..., None]
) -> None:
    jobs("copy")
    before = convert(str(net), "onnx", Options(), Call("out.onnx"))
    model = onnx.load(net)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((4, 3), np.float32), "w"))
    onnx.save(model, net)
    after = convert(str(net), "onnx", Options(), Call("out.onnx"))
    assert before.source.sha256 != after.source.sha256


def test_external_data_of_the_source_is_never_written_to(net: Path, jobs: Callable[..., None]) -> None:
    jobs("copy")
    onnx.save(onnx.load(net), "ext.onnx", save_as_external_data=True, location="ext.data", size_threshold=0)
    before = Path("ext.data").read_bytes()
    with pytest.raises(OutputIsSource):
        convert("ext.onnx", "onnx", Options(), Call("ext.data", force=True))
    assert Path("ext.data").read_bytes() == before


def test_weights_module_and_data_are_read_and_told_by_their_digest(tmp_path: Path) -> None:
    module, weights, data = tmp_path / "net.py", tmp_path / "w.safetensors", tmp_path / "d.npz"
    for path in (module, weights, data):
        path.write_bytes(path.name.encode())
    options = Options(weights=str(weights), data=str(data))
    read = origin.reads(ModelFile(f"{module}:make(1)", module, "torch-module"), options)
    assert read.files == (module, weights, data)
    content = origin.look(read)
    assert content.weights_sha256 == hashlib.sha256(b"w.safetensors").hexdigest()
    other = origin.reads(ModelFile(f"{module}:make(2)", module, "torch-module"), options)
    assert other.identity != read.identity


def test_shards_are_read_with_their_index(tmp_path: Path) -> None:
    index = tmp_path / "w.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}))
    shards = [tmp_path / "1.safetensors", tmp_path / "2.safetensors"]
    for path in shards:
        path.write_bytes(path.name.encode())
    options = Options(module="timm:create_model('resnet18')")
    read = origin.reads(ModelFile(str(index), index, "torch-weights"), options)
    assert read.files == (index, *shards)
    lines = sorted(
        f"{path.name}:{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in (index, *shards)
    )
    assert origin.look(read).weights_sha256 == hashlib.sha256("\n".join(lines).encode()).hexdigest()


def test_the_record_and_the_artifact_tell_the_digest_of_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    safetensors = pytest.importorskip("safetensors.torch")
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text("import torch\n\ndef make():\n    return torch.nn.Linear(4, 3)\n")
    safetensors.save_file(torch.nn.Linear(4, 3).state_dict(), "w.safetensors")
    sha256 = hashlib.sha256(Path("w.safetensors").read_bytes()).hexdigest()
    options = Options(weights="w.safetensors", input=(parse_input("input=1,4"),))
    with pytest.raises(OutputIsSource):
        convert("net.py:make", "onnx", options, Call("w.safetensors", force=True))
    conversion = convert("net.py:make", "onnx", options, Call("net.onnx"))
    assert (conversion.source.weights, conversion.source.weights_sha256) == ("w.safetensors", sha256)
    assert json.loads(Path("net.onnx.mlconv.json").read_text())["source"]["weights_sha256"] == sha256
    embedded = {entry.key: entry.value for entry in onnx.load("net.onnx").metadata_props}
    assert json.loads(embedded["mlconv.provenance"])["source"]["weights_sha256"] == sha256


# ------------------------------------------------------------------ whole outputs


def test_a_conversion_on_the_command_line_is_printed_whole(net: Path, run_cli: RunCli) -> None:
    ran = run_cli("onnx", "net.onnx", cwd=net.parent)
    assert (ran.code, ran.out) == (0, "net.opset17.onnx\n")
    steady = re.sub(r"\d+\.\d s", "S s", ran.err)
    steady = re.sub(r"max \|d\| \S+ of \S+ ", "max |d| D of R ", re.sub(r"allows \S+\)", "allows A)", steady))
    steady = re.sub(r"onnxruntime \d+\.\d+", "onnxruntime V", re.sub(r"\d+ B", "N B", steady))
    assert [line for line in steady.splitlines() if not line.startswith("  ") or "structure ok" in line] == [
        "net.onnx (onnx) -> net.opset17.onnx   opset 17, 1 operator, N B, onnx, S s",
        "  structure ok · loads in onnxruntime V · parity ok: max |d| D of R over 8 random samples (fp32 allows A)",
    ]


def test_quiet_prints_the_path_alone(net: Path, run_cli: RunCli) -> None:
    ran = run_cli("-q", "onnx", "net.onnx", cwd=net.parent)
    assert (ran.code, ran.out, ran.err) == (0, "net.opset17.onnx\n", "")


def test_json_is_the_record_s_own_document(net: Path, run_cli: RunCli) -> None:
    ran = run_cli("--json", "onnx", "net.onnx", "-o", "m.onnx", "--metadata", "team=vision", cwd=net.parent)
    document, record = json.loads(ran.out), json.loads((net.parent / "m.onnx.mlconv.json").read_text())
    assert ran.err == ""
    assert {key: record[key] for key in document} == document
    assert record["options"]["metadata"] == [["team", "vision"]]


def test_a_verdict_is_printed_whole(tmp_path: Path, run_cli: RunCli) -> None:
    nodes = [helper.make_node("Log", ["w"], ["l"]), helper.make_node("Add", ["x", "l"], ["y"])]
    save(tmp_path / "bad.onnx", nodes, {"w": np.full(4, -1, np.float32)})
    ran = run_cli("-q", "onnx", "bad.onnx", cwd=tmp_path)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        "error[MLC303]: the source itself gives NaN in `y`: 8 of 8 elements of sample 0\n"
        "hint: --write-anyway keeps the file for a look\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["bad.onnx"]
