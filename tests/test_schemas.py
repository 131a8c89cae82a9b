"""The published schemas: what commands print is valid, what breaks the contract is not."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest

from mlconv import about, catalogue, doctor, result, schemas
from mlconv.checks.evidence import Answers, summed
from mlconv.checks.parity import Rule, compare
from mlconv.errors import MissingFile, ParityFailed, UnknownSchema
from mlconv.formats import Description
from mlconv.jsonable import to_json
from mlconv.result import Artifact, Attempt, Checked, CheckLine, Compared, Conversion, Inspected, Source, Step
from mlconv.tensors import Quantization, TensorSpec

Document = dict[str, Any]

IMAGE = TensorSpec("image", ("batch", 3, None, 224), "float32", values=(0.0, 255.0))
CODES = TensorSpec("codes", None, "int8", Quantization(0.5, -3))
VERDICT = ParityFailed("`y` differs", why="worst at [0, 1]", fix="--write-anyway")


def parity() -> Document:
    """One output within tolerance, one beyond it, one with NaN, one that is missing."""
    told = np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3)
    pairs = [("y", told), ("z", told + 1), ("n", np.full_like(told, np.nan)), ("m", None)]
    rows = [compare(name, [told, told * 2], [given, given], Rule()) for name, given in pairs]
    rows.append(
        compare(
            "q", [np.arange(4, dtype=np.int8)], [np.arange(4, dtype=np.int8)], Rule(step=1.0, spread=(3.0,))
        )
    )
    answers = Answers("torch-cpu", (IMAGE,), (CODES,), (), notes=("a sample was left out",))
    return dict(to_json(summed(rows, answers, "onnxruntime-cpu", "fp32", {"y": "out"})))


def conversion(failure: ParityFailed | None = None, evidence: Document | None = None) -> Document:
    source = Source("net.py:make", "torch-module", None, None, "constructor", (IMAGE,), (CODES,))
    artifact = Artifact(
        "net.onnx", "onnx", "0" * 64, 4321, 18, (IMAGE,), (CODES,), 49, ("net.onnx",), failure is None
    )
    attempts = (Attempt("torch-script", "MLC214", "no ONNX form"),)
    route = (
        Step(
            "torch-module",
            "onnx",
            "torch-torch-module",
            "torch dynamo exporter",
            {"torch": "2.13.0"},
            4.1,
            attempts,
        ),
    )
    checks = {
        "structure": {"ok": True, "findings": [{"name": "checker", "ok": True, "detail": ""}]},
        "load": {"ok": True, "runner": "onnxruntime-cpu", "runtime": "onnxruntime 1.31", "detail": ""},
        "parity": evidence,
    }
    return Conversion(
        failure is None, source, artifact, route, checks, ("a warning",), 6.2, failure
    ).to_json()


def inspected() -> Document:
    quantization = {"kind": "full", "dtypes": {"int8": 31}}
    description = Description("tflite", (IMAGE,), (CODES,), {"ADD": 2}, 12, 30, 400, quantization, None, {"author": "me"},
                              {"mlconv": "0.1.0"}, ("serve",), ("it holds a pickle",))  # fmt: skip
    return Inspected("net.tflite", to_json(description), 0.1).to_json()


def checked() -> Document:
    lines = (
        CheckLine("structure", True, "4 operators"),
        CheckLine("load", False, "no", "pip install -U onnxruntime onnx"),
        CheckLine("run", None, "not loaded"),
    )
    return Checked("net.onnx", "onnx", lines, (), 0.5).to_json()


def demo() -> Document:
    ran = {"name": "digits.onnx", "ok": True, "detail": "max |d| 1e-07", "source_accuracy": 0.97, "artifact_accuracy": 0.97,
           "seconds": 0.4, "install": None}  # fmt: skip
    skipped = {**ran, "name": "digits.pt2", "ok": None, "source_accuracy": None, "artifact_accuracy": None, "seconds": 0.0,
               "install": "pip install 'mlconv[torch,cpu]'"}  # fmt: skip
    return {
        "schema": "mlconv.demo/1",
        "ok": True,
        "folder": "demo",
        "steps": [ran, skipped],
        "warnings": [],
        "seconds": 0.5,
    }


def documents() -> Iterator[tuple[str, Document]]:
    yield "convert", conversion()
    yield "convert", conversion(VERDICT, parity())
    yield "inspect", inspected()
    yield "inspect", Inspected("w.safetensors", to_json(Description("torch-weights")), 0.1).to_json()
    yield "check", checked()
    yield "compare", Compared("a.pt2", "b.onnx", parity(), (), 0.5).to_json()
    yield "compare", Compared("a.pt2", "b.onnx", parity(), ("a note",), 0.5, VERDICT).to_json()
    yield "formats", {**about.formats(), "seconds": 0.01}
    yield "doctor", doctor.diagnose().to_json(0.01)
    yield "doctor", doctor.Diagnosis((), (doctor.Problem("a", "b"), doctor.Problem("c", "d", blocking=False)), {"TORCH": "/t/python"},
                                     {"cores": 2, "memory_bytes": 1}).to_json(0.01)  # fmt: skip
    yield "explain", catalogue.entry("MLC214").to_json(0.01)
    yield "demo", demo()
    yield "error", MissingFile("no file `x`", fix="look at the path").to_json()
    yield "error", MissingFile("no file `x`", why="gone", fix="look at the path", log="/logs/1").to_json()


PRINTED = list(documents())
every_document = pytest.mark.parametrize(
    ("name", "document"), PRINTED, ids=[f"{name}-{i}" for i, (name, _) in enumerate(PRINTED)]
)


def faults(name: str, document: Document) -> list[str]:
    kind = jsonschema.Draft202012Validator
    return [
        f"{fault.json_path}: {fault.message}" for fault in kind(schemas.schema(name)).iter_errors(document)
    ]


def below(schema: Document, document: Any, path: str = "$") -> Iterator[tuple[str, Document, Document]]:
    """Every object of a document with the part of the schema that describes its keys."""
    if isinstance(document, dict) and "properties" in schema:
        yield path, schema, document
        for key, value in document.items():
            yield from below(schema["properties"].get(key, {}), value, f"{path}.{key}")
    elif isinstance(document, list) and "items" in schema:
        for index, value in enumerate(document):
            yield from below(schema["items"], value, f"{path}[{index}]")


def undescribed(name: str, document: Document) -> list[str]:
    """Keys of a document of which its schema says nothing."""
    parts = below(schemas.schema(name), document)
    return [f"{path}.{key}" for path, schema, part in parts for key in part.keys() - schema["properties"]]


def described(schema: Document, path: str = "$") -> Iterator[tuple[str, Document]]:
    """Every key that a schema knows, with what it says of it."""
    for key, value in schema.get("properties", {}).items():
        yield f"{path}.{key}", value
        yield from described(value, f"{path}.{key}")
    if "items" in schema:
        yield from described(schema["items"], f"{path}[]")


def test_every_document_has_an_example_here() -> None:
    assert {name for name, _ in PRINTED} == set(schemas.NAMES)


@pytest.mark.parametrize("name", schemas.NAMES)
def test_a_schema_is_a_schema_and_says_which_dialect(name: str) -> None:
    schema = schemas.schema(name)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"mlconv.{name}/1"
    jsonschema.Draft202012Validator.check_schema(schema)
    assert json.loads(json.dumps(schema)) == schema


@pytest.mark.parametrize("name", schemas.NAMES)
def test_every_key_is_described(name: str) -> None:
    assert [path for path, value in described(schemas.schema(name)) if not value.get("description")] == []


@every_document
def test_a_document_is_valid(name: str, document: Document) -> None:
    assert faults(name, json.loads(json.dumps(document, allow_nan=False))) == []


@every_document
def test_no_printed_key_is_left_undescribed(name: str, document: Document) -> None:
    assert undescribed(name, document) == []


@every_document
def test_a_document_under_another_schema_is_not_valid(name: str, document: Document) -> None:
    assert faults(name, {**document, "schema": "mlconv.nothing/1"})
    assert faults(name, {**document, "schema": f"mlconv.{name}/2"})


@every_document
def test_a_document_without_a_promised_key_is_not_valid(name: str, document: Document) -> None:
    promised = {"schema", "ok"} | (
        {"id", "code", "exit", "what", "hint"} if name == "error" else {"warnings", "seconds"}
    )
    for key in promised:
        assert faults(name, {own: value for own, value in document.items() if own != key}), key


@every_document
def test_a_document_with_a_further_key_is_valid(name: str, document: Document) -> None:
    assert faults(name, {**document, "added_in_a_later_version": {"a": [1]}}) == []


@every_document
def test_ok_is_nothing_but_true_or_false(name: str, document: Document) -> None:
    for wrong in (None, "yes", 1, 0):
        assert faults(name, {**document, "ok": wrong}), wrong


def test_an_error_is_never_ok() -> None:
    error = MissingFile("no file `x`", fix="look at the path").to_json()
    assert faults("error", {**error, "ok": True})


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (("source", "sha256"), "abc"),
        (("source", "inputs"), None),
        (("source", "inputs", 0, "shape"), [1.5]),
        (("source", "inputs", 0, "dtype"), None),
        (("artifact", "bytes"), -1),
        (("artifact", "sha256"), None),
        (("artifact", "written"), "yes"),
        (("route",), []),
        (("route", 0, "attempts", 0, "error"), "214"),
        (("checks", "parity", "outputs", 0, "max_abs"), "0.1"),
        (("checks", "parity", "outputs", 0, "worst"), [1.0]),
        (("checks", "parity", "outputs", 0, "fault_kind"), "other"),
        (("checks", "parity", "computes"), "int8"),
        (("checks", "load", "ok"), None),
        (("failure", "id"), "MLC1"),
        (("seconds",), -1),
        (("warnings",), "none"),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_a_value_of_the_wrong_kind_is_not_valid(path: tuple[str | int, ...], wrong: object) -> None:
    document = copy.deepcopy(conversion(VERDICT, parity()))
    assert faults("convert", document) == []
    part: Any = document
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = wrong
    assert faults("convert", document)


@pytest.mark.parametrize("shape", [None, [], [1, 3, 224, 224], ["batch", 3, None]])
def test_a_shape_has_sizes_names_and_nulls(shape: list[int | str | None] | None) -> None:
    document = conversion()
    document["source"]["inputs"][0]["shape"] = shape
    assert faults("convert", document) == []


def test_an_accuracy_is_a_share() -> None:
    document = demo()
    document["steps"][0]["source_accuracy"] = 97
    assert faults("demo", document)


def test_a_schema_cannot_be_changed_by_who_asked_for_it() -> None:
    schemas.schema("convert")["properties"].clear()
    assert schemas.schema("convert")["properties"]


@pytest.mark.parametrize("name", ["convert", "mlconv.convert/1", *schemas.CONVERTING])
def test_a_converting_command_prints_convert(name: str) -> None:
    assert schemas.schema(name)["$id"] == "mlconv.convert/1"


@pytest.mark.parametrize(
    ("name", "near"), [("conversion", "convert"), ("inspekt", "inspect"), ("zzz", "convert"), ("", "convert")]
)
def test_an_unknown_schema_tells_the_known_ones(name: str, near: str) -> None:
    with pytest.raises(UnknownSchema) as caught:
        schemas.schema(name)
    assert caught.value.what == f"there is no schema `{name}`"
    assert all(f"`{known}`" in (caught.value.why or "") for known in schemas.NAMES)
    assert caught.value.fix == f"mlconv schema {near}"


def test_schemas_and_catalogue_are_there_without_any_package() -> None:
    source = str(Path(result.__file__).parents[1])
    code = f"import sys; sys.path.insert(0, {source!r}); import mlconv.schemas, mlconv.catalogue; print(*sys.modules)"
    alone = [sys.executable, "-I", "-S", "-c", code]  # -S: no site-packages
    done = subprocess.run(alone, capture_output=True, text=True, check=True)
    assert "mlconv.schemas" in done.stdout.split()


# ------------------------------------------------------------------ what the commands really print


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``y = relu(x)`` over a dynamic batch, as ONNX."""
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 3]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "net", ends[:1], ends[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def assert_described(words: str, net: Path, folder: Path, run_cli: Callable[..., Any]) -> None:
    ran = run_cli("--json", *words.format(net=net).split(), cwd=folder)
    name = ran.document["schema"].removeprefix("mlconv.").removesuffix("/1")
    assert (name, faults(name, ran.document), undescribed(name, ran.document)) == (name, [], []), ran
    assert name == (
        "error" if "nope" in words else "convert" if words.startswith("onnx") else words.split(maxsplit=1)[0]
    ), ran


@pytest.mark.parametrize(
    "words", ["formats", "doctor", "explain MLC214", "inspect {net}", "inspect nope.onnx"]
)
def test_a_command_without_a_framework_prints_what_its_schema_says(
    words: str, net: Path, tmp_path: Path, run_cli: Callable[..., Any]
) -> None:
    assert_described(words, net, tmp_path, run_cli)


@pytest.mark.framework("onnxruntime")
@pytest.mark.parametrize(
    "words", ["onnx {net}", "onnx {net} --no-parity", "check {net}", "compare {net} {net}"]
)
def test_a_command_that_runs_models_prints_what_its_schema_says(
    words: str, net: Path, tmp_path: Path, run_cli: Callable[..., Any]
) -> None:
    assert_described(words, net, tmp_path, run_cli)
