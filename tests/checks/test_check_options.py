"""`check` and `compare`: an option that means nothing to a model is refused, never dropped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper

from mlconv.checks.models import assert_used, side_of, takers
from mlconv.cli.options import SourceOptions
from mlconv.convert.job import Options
from mlconv.errors import OptionNotAccepted
from mlconv.formats import ModelFile
from mlconv.registry import converters

RunCli = Callable[..., Any]  # conftest.run_cli
OF_EVERY_MODEL = {"input", "data", "preprocess", "seed", "timeout", "memory"}
NET, SAVED = ModelFile("net.onnx", Path("net.onnx"), "onnx"), ModelFile("saved", Path("saved"), "saved-model")
KERAS = ModelFile("net.keras", Path("net.keras"), "keras")


def write(path: Path) -> None:
    put, out = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [put], [out])
    opset = helper.make_opsetid("", 18)
    path.write_bytes(helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString())


def test_every_option_of_a_source_is_of_every_model_or_has_its_takers() -> None:
    assert {field.name for field in fields(SourceOptions)} <= OF_EVERY_MODEL | takers().keys()
    assert "runtime" in takers()


@pytest.mark.parametrize("name", sorted(takers()))
def test_an_option_for_other_formats_is_refused_by_name(name: str) -> None:
    model = SAVED if name == "runtime" else NET
    given: dict[str, Any] = {name: "given"}
    with pytest.raises(OptionNotAccepted) as caught:
        assert_used(replace(Options(), **given), [model])
    flag = f"--{name.replace('_', '-')}"
    assert caught.value.what == f"`{flag}` means nothing to `{model.ref}` ({model.format})"
    assert caught.value.why == f"it is for {', '.join(takers()[name])}"
    assert caught.value.fix == f"leave {flag} out"


@pytest.mark.parametrize("name", sorted(takers().keys() - {"runtime"}))
def test_what_a_conversion_takes_to_open_a_format_is_taken_here_too(name: str) -> None:
    given: dict[str, Any] = {name: "given"}
    for converter in converters():
        if name in converter.accepts:
            source: Any = converter.source
            assert_used(replace(Options(), **given), [ModelFile("m", Path("m"), source)])


def test_of_two_models_one_that_takes_it_is_enough() -> None:
    assert_used(replace(Options(), custom_objects="layers.py"), [KERAS, NET])
    with pytest.raises(OptionNotAccepted, match=r"nothing to `net\.onnx` \(onnx\) nor `net\.onnx`"):
        assert_used(replace(Options(), custom_objects="layers.py"), [NET, NET])


@pytest.mark.framework("onnxruntime")
def test_the_other_side_does_not_get_it(tmp_path: Path) -> None:
    write(tmp_path / "net.onnx")
    model = ModelFile("net.onnx", tmp_path / "net.onnx", "onnx")
    side, _ = side_of(model, replace(Options(), custom_objects="layers.py", tag="serve", seed=3))
    assert (side.options.custom_objects, side.options.tag, side.options.seed) == (None, None, 3)


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (["check", "net.onnx", "--custom-objects", "x.py"], "--custom-objects"),
        (["check", "net.onnx", "--weights", "w.pt"], "--weights"),
        (["check", "net.onnx", "--weights-prefix", "model."], "--weights-prefix"),
        (["check", "net.onnx", "--tag", "serve"], "--tag"),
        (["compare", "net.onnx", "net.onnx", "--custom-objects", "x.py"], "--custom-objects"),
    ],
)
def test_the_command_refuses_it(words: list[str], flag: str, tmp_path: Path, run_cli: RunCli) -> None:
    write(tmp_path / "net.onnx")
    ran = run_cli("--json", *words, cwd=tmp_path)
    assert ran.code == 2, ran
    assert ran.document["id"] == "MLC007"
    assert flag in ran.document["what"]


@pytest.mark.framework("torch")
@pytest.mark.framework("onnxruntime")
def test_a_pickle_is_checked_as_a_state_dict_by_the_module_that_is_named(
    tmp_path: Path, run_cli: RunCli
) -> None:
    torch = pytest.importorskip("torch")
    (tmp_path / "net.py").write_text("import torch\n\n\ndef make():\n    return torch.nn.Linear(3, 2)\n")
    torch.save(torch.nn.Linear(3, 2), tmp_path / "net.pt")
    words = ["net.pt", "--module", "net.py:make", "--input", "batch,3"]
    ran = run_cli("check", *words, cwd=tmp_path)
    assert ran.code == 0, ran
    made = run_cli("onnx", *words, "-o", "net.onnx", cwd=tmp_path)
    assert made.code == 0, made
    compared = run_cli("compare", "net.pt", "net.onnx", *words[1:], cwd=tmp_path)
    assert compared.code == 0, compared
