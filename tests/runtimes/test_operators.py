"""Which operators a runtime lacks: by name, version and type, in graphs, bodies and functions."""

from __future__ import annotations

import importlib.metadata
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper

from mlconv.runtimes import table
from mlconv.runtimes.operators import Operator, first_with, lacking, operators
from mlconv.runtimes.table import Runtime

FLOAT, HALF, INT8, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8, TensorProto.INT64
DOUBLE = TensorProto.DOUBLE


def model(
    nodes: Sequence[NodeProto],
    opset: int,
    kind: int = FLOAT,
    shape: Sequence[int] = (2, 4),
    *,
    domains: Mapping[str, int] | None = None,
) -> ModelProto:
    """``x`` to ``y``, both of one type."""
    put, out = helper.make_tensor_value_info("x", kind, shape), helper.make_tensor_value_info("y", kind, None)
    imports = [
        helper.make_opsetid("", opset),
        *(helper.make_opsetid(name, version) for name, version in (domains or {}).items()),
    ]
    return helper.make_model(helper.make_graph(nodes, "g", [put], [out]), opset_imports=imports, ir_version=8)


def one(
    name: str, opset: int, kind: int = FLOAT, inputs: Sequence[str] = ("x",), **attributes: Any
) -> ModelProto:
    return model([helper.make_node(name, inputs, ["y"], **attributes)], opset, kind)


def told(proto: ModelProto, runtime: str) -> list[str]:
    return [lack.shown for lack in lacking(proto, table.find(runtime))]


def test_an_operator_is_told_with_the_version_that_its_opset_has_and_the_types_it_gets() -> None:
    assert operators(one("Add", 18, inputs=("x", "x"))) == {
        Operator("", "Add", 14, (("A", "float"), ("B", "float"), ("C", "float"), ("T", "float")), 18)
    }


def test_a_model_whose_operators_are_all_there_lacks_nothing() -> None:
    assert told(one("Relu", 18), "onnxruntime==1.17") == []


def test_an_operator_that_came_later_is_told_with_the_release_that_has_it() -> None:
    assert told(one("Gelu", 20), "onnxruntime==1.16") == ["`Gelu` 20 (since onnxruntime 1.17)"]


def test_a_version_that_came_later_is_told_with_the_one_that_is_there() -> None:
    pooled = model([helper.make_node("GlobalAveragePool", ["x"], ["y"])], 22, shape=(1, 3, 4, 4))
    assert told(pooled, "onnxruntime==1.20") == [
        "`GlobalAveragePool` 22 (since onnxruntime 1.21; it has version 1)"
    ]


def test_an_operator_that_no_release_has_is_told_as_that() -> None:
    proto = model([helper.make_node("MaxRoiPool", ["x", "x"], ["y"], pooled_shape=[1, 1])], 22)
    assert told(proto, "onnxruntime==1.31") == [
        "`MaxRoiPool` 22 (in no release of onnxruntime known here; it has version 1)"
    ]


def test_a_type_without_a_kernel_is_told() -> None:
    """onnxruntime 1.17 adds int8 nowhere; 1.31 neither multiplies strings."""
    assert told(one("Add", 18, INT8, ("x", "x")), "onnxruntime==1.17") == ["`Add` 14 (not for int8)"]
    assert told(one("Add", 18, INT64, ("x", "x")), "onnxruntime==1.17") == []


def test_half_precision_without_a_kernel_is_computed_in_float32() -> None:
    """onnxruntime 1.17 has no float16 kernel of Erf, and casts."""
    runtime = table.find("onnxruntime==1.17")
    assert not any("float16" in kernel.types["T"] for kernel in runtime.kernels("", "Erf"))
    assert lacking(one("Erf", 18, HALF), runtime) == ()


def test_a_defect_of_a_release_counts_from_its_opset_on() -> None:
    assert told(one("Softmax", 18, HALF), "onnxruntime==1.16") == [
        "`Softmax` 13 (a defect of that release: not for float16 from opset 18 on)"
    ]
    assert told(one("Softmax", 17, HALF), "onnxruntime==1.16") == []
    assert told(one("Softmax", 18, HALF), "onnxruntime==1.17") == []


def test_bodies_of_control_flow_are_looked_into() -> None:
    body = helper.make_graph(
        [helper.make_node("Gelu", ["x"], ["inner"])],
        "body",
        [],
        [helper.make_tensor_value_info("inner", FLOAT, [2, 4])],
    )
    proto = model([helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)], 20)
    proto.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    assert told(proto, "onnxruntime==1.16") == ["`Gelu` 20 (since onnxruntime 1.17)"]


def test_a_call_of_a_model_local_function_is_no_operator_and_its_body_is() -> None:
    function = helper.make_function(
        "own", "twice", ["a"], ["b"], [helper.make_node("Gelu", ["a"], ["b"])], [helper.make_opsetid("", 20)]
    )
    proto = model([helper.make_node("twice", ["x"], ["y"], domain="own")], 20, domains={"own": 1})
    proto.functions.append(function)
    assert {operator.shown for operator in operators(proto)} == {"Gelu"}
    assert told(proto, "onnxruntime==1.16") == ["`Gelu` 20 (since onnxruntime 1.17)"]


def convolved(kind: int, name: str) -> list[NodeProto]:
    """``x`` and ``w`` convolved as numbers of another type; the values between have the same names whatever it is."""
    return [
        helper.make_node("Cast", ["x"], ["a"], to=kind),
        helper.make_node("Cast", ["w"], ["b"], to=kind),
        helper.make_node("Conv", ["a", "b"], ["c"]),
        helper.make_node("Cast", ["c"], [name], to=FLOAT),
    ]


IMAGE, KERNEL = (
    helper.make_tensor_value_info("x", FLOAT, [1, 1, 4, 4]),
    helper.make_tensor_value_info("w", FLOAT, [1, 1, 3, 3]),
)


def test_the_body_of_a_function_gets_the_types_of_its_calls() -> None:
    """onnxruntime convolves no doubles."""
    function = helper.make_function(
        "own", "convolve", ["a", "b"], ["c"], [helper.make_node("Conv", ["a", "b"], ["c"])], [helper.make_opsetid("", 18)]
    )  # fmt: skip
    call = helper.make_node("convolve", ["x", "x"], ["y"], domain="own")
    for kind, lacks in {DOUBLE: ["`Conv` 11 (not for double)"], FLOAT: []}.items():
        proto = model([call], 18, kind, domains={"own": 1})
        proto.functions.append(function)
        assert told(proto, "onnxruntime==1.17") == lacks


def test_a_function_that_calls_itself_has_an_answer() -> None:
    inner = [helper.make_node("again", ["a"], ["c"], domain="own"), helper.make_node("Gelu", ["c"], ["b"])]
    proto = model([helper.make_node("again", ["x"], ["y"], domain="own")], 20, domains={"own": 1})
    proto.functions.append(
        helper.make_function("own", "again", ["a"], ["b"], inner, [helper.make_opsetid("", 20)])
    )
    assert told(proto, "onnxruntime==1.16") == ["`Gelu` 20 (since onnxruntime 1.17)"]


@pytest.mark.parametrize("kinds", [("DOUBLE", "FLOAT"), ("FLOAT", "DOUBLE")])
def test_branches_may_give_values_of_two_types_the_same_name(kinds: tuple[str, str]) -> None:
    bodies = {
        f"{place}_branch": helper.make_graph(
            convolved(TensorProto.DataType.Value(kind), f"d{place}"), place, [],
            [helper.make_tensor_value_info(f"d{place}", FLOAT, None)],
        )
        for place, kind in zip(("then", "else"), kinds, strict=True)
    }  # fmt: skip
    graph = helper.make_graph(
        [helper.make_node("If", ["p"], ["y"], **bodies)], "g",
        [helper.make_tensor_value_info("p", TensorProto.BOOL, []), IMAGE, KERNEL], [helper.make_tensor_value_info("y", FLOAT, None)],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    found = {types["T"] for op in operators(proto) if op.name == "Conv" and (types := dict(op.types))}
    assert found == {"double", "float"}
    assert told(proto, "onnxruntime==1.17") == ["`Conv` 11 (not for double)"]


def test_fused_operators_of_onnxruntime_have_types() -> None:
    def gelu(kind: int) -> ModelProto:
        node = helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")
        return model([node], 18, kind, domains={"com.microsoft": 1})

    assert told(gelu(DOUBLE), "onnxruntime==1.31") == ["`com.microsoft.Gelu` 1 (not for double)"]
    assert told(gelu(FLOAT), "onnxruntime==1.31") == []


def test_types_are_followed_through_operators_that_onnx_does_not_know() -> None:
    nodes = [
        helper.make_node("FusedMatMul", ["x", "x"], ["m"], domain="com.microsoft"),
        helper.make_node("Identity", ["m"], ["i"]),
        helper.make_node("Conv", ["i", "i"], ["c"]),
        helper.make_node("Cast", ["c"], ["y"], to=DOUBLE),
    ]
    proto = model(nodes, 18, DOUBLE, domains={"com.microsoft": 1})
    assert "`Conv` 11 (not for double)" in told(proto, "onnxruntime==1.31")


def test_every_operator_that_the_table_adds_to_those_of_onnx_has_its_formals() -> None:
    data = Path(table.__file__).parent
    known = json.loads((data / "data/onnxruntime.json").read_text(encoding="utf-8"))["operators"]
    formals = json.loads((data / "fused_formals.json").read_text(encoding="utf-8"))
    for domain in (domain for domain in known if domain.startswith("com.microsoft")):
        assert formals[domain].keys() == known[domain].keys()
        for name, rows in known[domain].items():
            parameters = {formal.split(":")[place] for formal in formals[domain][name].replace(" -> ", " ").split() for place in (0, 1)}  # fmt: skip
            assert all(formal in parameters for row in rows for formal in (row[2] if len(row) > 2 else {}))


def test_an_operator_of_a_domain_of_ones_own_is_lacked_by_its_full_name() -> None:
    proto = model(
        [helper.make_node("Warp", ["x"], ["y"], domain="my.company")], 18, domains={"my.company": 1}
    )
    assert told(proto, "onnxruntime==1.31") == [
        "`my.company.Warp` 1 (in no release of onnxruntime known here)"
    ]


def test_fused_operators_of_onnxruntime_are_in_its_table() -> None:
    proto = model(
        [helper.make_node("FusedMatMul", ["x", "x"], ["y"], domain="com.microsoft")],
        18,
        domains={"com.microsoft": 1},
    )
    assert told(proto, "onnxruntime==1.16") == []


def test_the_first_release_that_has_several_operators_is_that_of_the_latest() -> None:
    runtime = table.find("onnxruntime==1.16")
    wanted = [Operator("", "Gelu", 20), Operator("", "HardSwish", 22)]
    assert first_with(runtime, wanted) == "1.21"
    assert first_with(runtime, [*wanted, Operator("", "MaxRoiPool", 22)]) is None


def test_a_list_without_versions_has_an_operator_at_every_opset() -> None:
    assert told(one("Relu", 20), "tensorrt==10.1") == []
    assert told(one("Relu", 13), "tensorrt==10.1") == []
    assert told(model([helper.make_node("Det", ["x"], ["y"])], 18), "tensorrt==10.1") == [
        "`Det` 11 (in no release of tensorrt known here)"
    ]


# ------------------------------------------------------------------ onnx's own test cases against the installed runtime


@pytest.fixture(scope="module")
def installed() -> Runtime:
    return table.find(f"onnxruntime=={importlib.metadata.version('onnxruntime')}")


@pytest.mark.framework("onnxruntime")
@pytest.mark.parametrize(
    "name",
    ["Add", "Max", "BitShift", "Cast", "Clip", "Celu", "CenterCropPad", "Det", "GroupNormalization", "HardSwish", "Mish", "RoiAlign",
     "Swish", "MaxUnpool", "NonMaxSuppression", "SequenceMap", "ImageDecoder", "TopK", "Where", "Mod"],
)  # fmt: skip
def test_the_installed_onnxruntime_loads_a_case_where_the_table_says_so(
    name: str, installed: Runtime
) -> None:
    """Both ways: what the table has is loaded, and what it lacks is refused as not implemented."""
    cases = _cases(name)
    assert cases
    for proto in cases:
        loaded, error = _load(proto)
        lacks = lacking(proto, installed)
        assert loaded or lacks or "implement" not in error, (name, error)
        assert not (loaded and lacks), (name, lacks)


def _cases(name: str) -> list[ModelProto]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its cases compute NaN and overflow on purpose
        from onnx.backend.test.case.node import collect_testcases

        cases = [case.model for case in collect_testcases(name) if case.model is not None]
    newest = 26, 13
    found = []
    for proto in cases:
        proto.ir_version = max(
            8, int(helper.find_min_ir_version_for(list(proto.opset_import), ignore_unknown=True))
        )
        if all(entry.version <= newest[0] for entry in proto.opset_import) and proto.ir_version <= newest[1]:
            found.append(proto)
    return found


def _load(proto: onnx.ModelProto) -> tuple[bool, str]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001  # onnxruntime's exceptions have no base class of their own
        return False, str(error)
    return True, ""
