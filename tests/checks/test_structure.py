"""The structure of ONNX files, every fault told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlconv.checks.structure import Structure, check_structure
from mlconv.errors import Corrupt
from mlconv.runners.onnx_session import onnxruntime_limits

node = helper.make_node


def checked(
    folder: Path,
    *nodes: onnx.NodeProto,
    opset: int = 17,
    ir_version: int = 8,
    outputs: str = "y",
    foreign: dict[str, int] | None = None,
) -> Structure:
    puts = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [2, 3]), ("z", [4, 5]))
    ]
    outs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in outputs.split()]
    graph = helper.make_graph(
        list(nodes), "g", puts, outs, [numpy_helper.from_array(np.ones(3, np.float32), "w")]
    )
    imports = [
        helper.make_opsetid("", opset),
        *(helper.make_opsetid(*item) for item in (foreign or {}).items()),
    ]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=ir_version), folder / "m.onnx")
    return check_structure(folder / "m.onnx")


def failed(structure: Structure) -> dict[str, str]:
    return {finding.name: finding.detail for finding in structure.findings if finding.ok is False}


def test_a_sound_model_has_no_fault(tmp_path: Path) -> None:
    structure = checked(tmp_path, node("Add", ["x", "w"], ["y"]))
    assert structure.ok
    names = [finding.name for finding in structure.findings]
    assert names == ["external data", "structure", "operators", "shape inference", "opset and IR version"]


def test_all_unknown_operators_are_named_with_their_count(tmp_path: Path) -> None:
    nodes = [
        node("Wobble", ["x"], ["a"]),
        node("Wobble", ["a"], ["b"]),
        node("Odd", ["b"], ["y"], domain="own"),
    ]
    told = failed(checked(tmp_path, *nodes, foreign={"own": 1}))["operators"]
    assert "`Wobble` (2 times)" in told
    assert "`own.Odd` (1 times)" in told


def test_an_operator_newer_than_the_opset_is_unknown(tmp_path: Path) -> None:
    assert "`Gelu`" in failed(checked(tmp_path, node("Gelu", ["x"], ["y"]), opset=19))["operators"]


def test_operators_of_onnxruntime_are_known(tmp_path: Path) -> None:
    nodes = [node("Gelu", ["x"], ["a"], domain="com.microsoft"), node("Relu", ["a"], ["y"])]
    structure = checked(tmp_path, *nodes, foreign={"com.microsoft": 1})
    assert structure.ok, structure


def test_every_value_that_nothing_makes_is_named(tmp_path: Path) -> None:
    nodes = [
        node("Add", ["ghost", "x"], ["a"], name="first"),
        node("Add", ["a", "phantom"], ["y"], name="second"),
    ]
    told = failed(checked(tmp_path, *nodes))["structure"]
    assert "`ghost`, an input of `first` (Add)" in told
    assert "`phantom`" in told


def test_an_operator_before_its_operand_is_named(tmp_path: Path) -> None:
    nodes = [node("Relu", ["a"], ["y"], name="late"), node("Neg", ["x"], ["a"])]
    assert (
        "`a`, an input of `late` (Relu), is made only after" in failed(checked(tmp_path, *nodes))["structure"]
    )


def test_a_value_that_is_defined_twice_is_named(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], ["y"]), node("Neg", ["x"], ["y"])]
    assert "`y`, an output of a Neg" in failed(checked(tmp_path, *nodes))["structure"]


def test_two_nodes_of_one_name_are_a_fault(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], ["a"], name="same"), node("Neg", ["a"], ["y"], name="same")]
    assert "two operators are called `same`" in failed(checked(tmp_path, *nodes))["structure"]


def test_an_output_that_nothing_makes_is_a_fault(tmp_path: Path) -> None:
    assert (
        "output `q` is made by nothing"
        in failed(checked(tmp_path, node("Relu", ["x"], ["y"]), outputs="y q"))["structure"]
    )


def test_shapes_that_cannot_be_added_fail_inference(tmp_path: Path) -> None:
    assert "Add" in failed(checked(tmp_path, node("Add", ["x", "z"], ["y"])))["shape inference"]


def test_a_declared_shape_that_inference_contradicts_fails(tmp_path: Path) -> None:
    assert "shape inference" in failed(checked(tmp_path, node("Transpose", ["x"], ["y"])))


def test_an_opset_beyond_the_runtime_is_a_fault(tmp_path: Path) -> None:
    newest = onnxruntime_limits()[0]
    told = failed(checked(tmp_path, node("Relu", ["x"], ["y"]), opset=newest + 1))
    assert str(newest + 1) in told["opset and IR version"]


def test_an_ir_version_beyond_onnx_is_a_fault(tmp_path: Path) -> None:
    assert (
        "IR version 99"
        in failed(checked(tmp_path, node("Relu", ["x"], ["y"]), ir_version=99))["opset and IR version"]
    )


def test_a_domain_without_an_opset_is_a_fault(tmp_path: Path) -> None:
    assert "own" in failed(checked(tmp_path, node("Odd", ["x"], ["y"], domain="own")))["opset and IR version"]


def test_missing_external_data_is_named(tmp_path: Path) -> None:
    checked(tmp_path, node("Add", ["x", "w"], ["y"]))
    proto = onnx.load(tmp_path / "m.onnx")
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="gone.bin")
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    assert "gone.bin" in failed(check_structure(tmp_path / "m.onnx"))["external data"]


def test_an_output_of_unknown_rank_is_no_fault(tmp_path: Path) -> None:
    checked(tmp_path, node("Relu", ["x"], ["y"]))
    proto = onnx.load(tmp_path / "m.onnx")
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    assert check_structure(tmp_path / "m.onnx").ok


def test_faults_inside_a_branch_are_found(tmp_path: Path) -> None:
    branches = [
        helper.make_graph(
            [node("Relu", ["ghost"], [name])], name, [], [helper.make_tensor_value_info(name, 1, [2, 3])]
        )
        for name in "te"
    ]
    nodes = [node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True))),
             node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1])]  # fmt: skip
    assert "`ghost`" in failed(checked(tmp_path, *nodes))["structure"]


def test_bytes_that_are_no_model_are_corrupt(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\xff\xff\xff")
    with pytest.raises(Corrupt):
        check_structure(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("ref", "sound"),
    [
        ("gkonovalov_android-vad/silero__src__main__assets__silero_vad.onnx", True),
        ("anilsathyan7_Portrait-Segmentation/SINet__SINet.onnx", True),
        ("NVIDIA_TensorRT/tools__Polygraphy__tests__models__bad_graph_with_duplicate_node_names.onnx", False),
    ],
)
def test_public_models_are_judged_as_their_runtime_does(models: Path, ref: str, sound: bool) -> None:
    assert check_structure(models / ref).ok is sound
