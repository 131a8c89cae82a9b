"""`.pt2` archives, read from their JSON."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from mlconv.errors import Corrupt, MlconvError, UnknownSignature
from mlconv.formats import ModelFile
from mlconv.formats.torch_export import describe
from mlconv.tensors import TensorSpec


def meta(*sizes: int | str, dtype: int = 7) -> dict[str, Any]:
    return {
        "dtype": dtype,
        "sizes": [
            {"as_int": size} if isinstance(size, int) else {"as_expr": {"expr_str": size}} for size in sizes
        ],
    }


def argument(name: str) -> dict[str, Any]:
    return {"as_tensor": {"name": name}}


def node(target: str, **inputs: Any) -> dict[str, Any]:
    return {
        "target": target,
        "inputs": [{"name": key, "arg": value} for key, value in inputs.items()],
        "outputs": [],
    }


BRANCH = {"nodes": [node("torch.ops.aten.relu.default")]}
SYMBOL = "Symbol('s77', positive=True, integer=True)"
PROGRAM: dict[str, Any] = {
    "graph_module": {
        "graph": {
            "nodes": [
                node("torch.ops.aten.conv2d.default"),
                node("torch.ops.aten.conv2d.padding"),
                node("torch.ops.higher_order.cond", branch={"as_graph": {"name": "g", "graph": BRANCH}}),
                node("_operator.mul"),
            ],
            "tensor_values": {
                "p_w": meta(2, 3), "b_n": meta(dtype=5), "x_": meta(SYMBOL, 3), "ids": meta("s77", 4, dtype=5),
                "out": meta(SYMBOL, f"Mul(Integer(2), {SYMBOL})"),
            },
        },
        "signature": {
            "input_specs": [
                {"parameter": {"arg": {"name": "p_w"}, "parameter_name": "w"}},
                {"buffer": {"arg": {"name": "b_n"}, "buffer_name": "n", "persistent": True}},
                {"user_input": {"arg": argument("x_")}},
                {"user_input": {"arg": argument("ids")}},
            ],
            "output_specs": [{"user_output": {"arg": argument("out")}}],
        },
        "module_call_graph": [{"fqn": "", "signature": {"forward_arg_names": ["x", "ids"]}}],
    },
    "range_constraints": {"s77": {"min_val": 1, "max_val": 64}},
    "schema_version": {"major": 8, "minor": 20},
    "torch_version": "2.13.0",
}  # fmt: skip


def save(path: Path, member: str = "models/model.json", **programs: Any) -> ModelFile:
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr(f"net/{member}", json.dumps(PROGRAM))
        opened.writestr("net/data/sample_inputs/model.pt", b"")
        for name, program in programs.items():
            opened.writestr(f"net/models/{name}.json", json.dumps(program))
    return ModelFile("net.pt2", path, "torch-export")


@pytest.mark.parametrize("member", ["models/model.json", "serialized_exported_program.json"])
def test_the_signature_has_the_names_of_forward_and_symbols(member: str, tmp_path: Path) -> None:
    described = describe(save(tmp_path / "net.pt2", member))
    assert described.inputs == (
        TensorSpec("x", ("s77", 3), "float32"),
        TensorSpec("ids", ("s77", 4), "int64"),
    )
    assert described.outputs == (TensorSpec("out", ("s77", None), "float32"),)


def test_operators_parameters_and_ranges_are_told(tmp_path: Path) -> None:
    described = describe(save(tmp_path / "net.pt2"))
    assert described.operators == {
        "_operator.mul": 1,
        "aten.conv2d": 2,
        "aten.relu": 1,
        "higher_order.cond": 1,
    }
    assert described.parameters == 6
    assert "axis `s77` goes from 1 to 64" in described.notes
    assert described.metadata == {"schema_version": "8.20", "torch_version": "2.13.0"}


def test_a_pickle_inside_is_told_of(tmp_path: Path) -> None:
    assert any("data/sample_inputs/model.pt" in note for note in describe(save(tmp_path / "net.pt2")).notes)


def test_one_of_several_programs_is_chosen_by_name(tmp_path: Path) -> None:
    other = json.loads(json.dumps(PROGRAM))
    other["graph_module"]["graph"]["nodes"] = []
    model = save(tmp_path / "net.pt2", decode=other)
    assert describe(model).signatures == ("model", "decode")
    assert describe(model, "decode").operators == {}
    with pytest.raises(UnknownSignature, match="`decode`"):
        describe(model, "encode")


@pytest.mark.parametrize(
    "hurt",
    [[], {}, {"graph_module": {}}, {"graph_module": 3}, "text", {**PROGRAM, "range_constraints": {"s": 3}}],
)
def test_json_of_another_shape_is_corrupt(hurt: Any, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt2", "w") as opened:
        opened.writestr("net/models/model.json", json.dumps(hurt))
    with pytest.raises(Corrupt):
        describe(ModelFile("a.pt2", tmp_path / "a.pt2", "torch-export"))


def test_damage_gives_an_answer_or_a_named_error(mutations: Any, tmp_path: Path) -> None:
    whole = save(tmp_path / "net.pt2")
    assert whole.path is not None
    for data in mutations(whole.path.read_bytes()):
        (tmp_path / "hurt.pt2").write_bytes(data)
        try:
            describe(ModelFile("hurt.pt2", tmp_path / "hurt.pt2", "torch-export"))
        except MlconvError:
            continue


def test_public_programs_are_read(models: Path) -> None:
    described = describe(ModelFile("iris", models / "derived" / "iris_mlp.dynbatch.pt2", "torch-export"))
    assert described.inputs == (TensorSpec("x", ("s77", 4), "float32"),)
    assert described.outputs == (TensorSpec("linear_2", ("s77", 3), "float32"),)
    assert described.operators == {"aten.linear": 3, "aten.relu": 2}
    assert described.parameters == 4 * 24 + 24 + 24 * 24 + 24 + 24 * 3 + 3
