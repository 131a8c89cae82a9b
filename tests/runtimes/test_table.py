"""The tables of runtimes: how a name and a version find theirs, and that the installed onnxruntime is as its table says."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import pytest

from mlconv import runtimes
from mlconv.errors import UnknownRuntime
from mlconv.runtimes import table
from mlconv.runtimes.table import Kernel

DATA = Path(runtimes.__file__).with_name("data")
TABLES = sorted(DATA.glob("*.json"))
every_table = pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
OPEN = 2147483647  # how onnxruntime writes the end of a kernel without one


@pytest.mark.parametrize(
    ("text", "label", "exact"),
    [
        ("onnxruntime==1.17", "onnxruntime 1.17", "1.17.3"),
        ("onnxruntime==1.17.1", "onnxruntime 1.17", "1.17.3"),
        (" ONNXRuntime == v1.17 ", "onnxruntime 1.17", "1.17.3"),
        ("onnxruntime-gpu==1.20", "onnxruntime 1.20", "1.20.1"),
        ("onnxruntime-web==1.20", "ort-web 1.20", "1.20.1"),
        ("trt==8.6", "tensorrt 8.6", "8.6"),
    ],
)
def test_a_release_is_found_by_its_name_and_version(text: str, label: str, exact: str) -> None:
    found = table.find(text)
    assert (found.label, found.exact, found.warning) == (label, exact, None)


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        ("onnxrutime==1.17", "mlconv has no table of a runtime `onnxrutime`", "--runtime onnxruntime==1.17"),
        ("onnxruntime==1.7", "mlconv has no table of onnxruntime 1.7", "--runtime onnxruntime==1.8"),
        ("onnxruntime==0.5", "mlconv has no table of onnxruntime 0.5", "--runtime onnxruntime==1.8"),
        ("onnxruntime==2.0", "mlconv has no table of onnxruntime 2.0", "--runtime onnxruntime==1.31"),
        ("onnxruntime==1", "mlconv has no table of onnxruntime 1", "--runtime onnxruntime==1.31"),
        ("onnxruntime", "--runtime onnxruntime: no version is given", "--runtime onnxruntime==1.31"),
        ("tensor-rt 8.6", "mlconv has no table of a runtime `tensor-rt`", "--runtime tensorrt==8.6"),
        ("onnxruntime==latest", "--runtime onnxruntime==latest: `latest` is no version", "--runtime onnxruntime==1.31"),
        ("", "mlconv has no table of a runtime ``", "--runtime onnxruntime==1.31"),
    ],
)  # fmt: skip
def test_what_no_table_has_is_refused_with_what_there_is(text: str, what: str, fix: str) -> None:
    with pytest.raises(UnknownRuntime) as caught:
        table.find(text)
    assert caught.value.what == what
    assert "1.8 to 1.31" in (caught.value.why or "")
    assert caught.value.fix == fix
    assert table.find(fix.removeprefix("--runtime ")).name


@pytest.mark.parametrize(
    "text",
    [f"onnxruntime{sign}1.16" for sign in ("=", ">=", "<=", "~=", "===", ">", " ", "@", ":", "-")]
    + ["onnxruntime >= v1.16", " ort=1.16 "],
)
def test_a_version_that_is_written_otherwise_stays_in_the_hint(text: str) -> None:
    with pytest.raises(UnknownRuntime) as caught:
        table.find(text)
    assert caught.value.fix == "--runtime onnxruntime==1.16"


def test_a_runtime_that_is_like_none_is_not_cured_by_another_one() -> None:
    with pytest.raises(UnknownRuntime) as caught:
        table.find("coreml==7")
    assert caught.value.fix.startswith("leave --runtime out: nothing here tells what coreml loads")


def test_a_release_between_those_of_a_table_is_held_to_the_older_one_across_years() -> None:
    found = table.find("openvino==2025.1")
    assert found.release == "2024.6"
    assert "no table of openvino 2025.1; 2024.6, the newest that is not newer" in str(found.warning)
    with pytest.raises(UnknownRuntime) as caught:
        table.find("openvino==2025")
    assert caught.value.fix == "--runtime openvino==2025.4"
    with pytest.raises(UnknownRuntime, match="openvino 2027"):
        table.find("openvino==2027.0")


def test_consecutive_releases_are_told_as_ranges() -> None:
    assert table.known("tensorrt") == "8.0, 8.2, 8.4 to 8.6, 9.0 to 9.3, 10.0, 10.1"
    assert table.known("openvino") == "2024.6, 2025.4, 2026.4"


def test_a_release_newer_than_the_table_is_held_to_the_newest_and_the_user_is_told() -> None:
    found = table.find("onnxruntime==1.99")
    assert found.release == "1.31"
    assert found.warning == (
        "mlconv has no table of onnxruntime 1.99; 1.31, the newest that is not newer, stands for it: "
        "later releases load what earlier ones do"
    )


@pytest.mark.parametrize(
    ("release", "opset", "ir_version"),
    # docs/Versioning.md of onnxruntime: the opset and IR version of each release
    [("1.10", 15, 8), ("1.12", 17, 8), ("1.14", 18, 8), ("1.15", 19, 9), ("1.17", 20, 9), ("1.18", 21, 10), ("1.20", 21, 10)],
)  # fmt: skip
def test_what_was_measured_is_what_onnxruntime_publishes(release: str, opset: int, ir_version: int) -> None:
    found = table.find(f"onnxruntime=={release}")
    assert (found.opset, found.ir_version) == (opset, ir_version)


def test_the_ort_format_changed_with_1_16() -> None:
    assert [table.find(f"onnxruntime==1.{minor}").ort_formats for minor in (12, 15, 16, 31)] == [
        (4,), (5,), (5, 6), (5, 6),
    ]  # fmt: skip


def test_a_kernel_of_one_version_is_not_one_of_the_next() -> None:
    """RoiAlign changed at opset 16 and 22, and the kernels of onnxruntime 1.31 end at 16."""
    kernels = table.find("onnxruntime==1.31").kernels("", "RoiAlign")
    assert [any(kernel.serves(version) for kernel in kernels) for version in (10, 16, 22)] == [
        True,
        True,
        False,
    ]


@every_table
def test_a_table_is_whole(path: Path) -> None:
    told = json.loads(path.read_text(encoding="utf-8"))
    assert told["runtime"] == path.stem
    assert told["basis"] in ("measured", "documented")
    assert told["source"]
    order = list(told["releases"])
    assert order == sorted(order, key=lambda text: [int(part) for part in text.split(".")])
    assert all({"exact", "opset", "ir"} <= row.keys() for row in told["releases"].values())
    for release in (order[0], order[-1]):
        found = table.find(f"{path.stem}=={release}")
        assert found.kernels("", "Conv"), f"{found.label} without Conv"
        assert not found.kernels("", "NoSuchOperator")


@every_table
def test_every_row_can_be_read(path: Path) -> None:
    told = json.loads(path.read_text(encoding="utf-8"))
    for domain, operators in told.get("operators", {}).items():
        for name, rows in operators.items():
            for release in told["releases"]:
                kernels = table.find(f"{path.stem}=={release}").kernels(domain, name)
                assert len(kernels) <= len(rows)
                assert all(kernel.first <= kernel.last for kernel in kernels)


# ------------------------------------------------------------------ the installed one


@pytest.fixture(scope="module")
def state() -> Any:
    return pytest.importorskip("onnxruntime.capi.onnxruntime_pybind11_state")


@pytest.fixture(scope="module")
def installed() -> table.Runtime:
    """The row of the installed onnxruntime: measure again (benchmarks/runtime_tables.py) where there is none of its own."""
    found = table.find(f"onnxruntime=={importlib.metadata.version('onnxruntime')}")
    assert found.warning is None, found.warning
    return found


@pytest.mark.framework("onnxruntime")
def test_the_installed_onnxruntime_has_the_kernels_of_its_table_and_no_others(
    state: Any, installed: table.Runtime
) -> None:
    registered = {(kernel.domain, kernel.op_name): set() for kernel in state.get_all_opkernel_def()}  # type: dict[tuple[str, str], set[Kernel]]
    rows = {key: set(map(_hashable, installed.kernels(*key))) for key in registered}
    for kernel in state.get_all_opkernel_def():
        first, last = kernel.version_range
        types = {name: frozenset(map(_bare, kinds)) for name, kinds in kernel.type_constraints.items()}
        registered[kernel.domain, kernel.op_name].add(
            _hashable(Kernel(first, first if last == OPEN else last, types))
        )
    assert all(registered[key] <= rows[key] for key in registered)
    untyped = {key: rows[key] - registered[key] for key in registered if rows[key] - registered[key]}
    assert all(not types for left in untyped.values() for _, _, types in left), "kernels that are gone"


def _hashable(kernel: Kernel) -> Any:
    return kernel.first, kernel.last, frozenset(kernel.types.items())


def _bare(kind: str) -> str:
    return kind[7:-1] if kind.startswith("tensor(") else kind


@pytest.mark.framework("onnxruntime")
def test_the_installed_onnxruntime_loads_the_versions_of_its_table_and_none_beyond(
    installed: table.Runtime,
) -> None:
    assert installed.opset is not None
    assert installed.ir_version is not None
    assert [_loads(opset, 4) for opset in (installed.opset, installed.opset + 1)] == [True, False]
    assert [_loads(7, ir) for ir in (installed.ir_version, installed.ir_version + 1)] == [True, False]


def _loads(opset: int, ir_version: int) -> bool:
    """``Not`` is the same since opset 1, so that no newer version of it can be missing."""
    import onnxruntime
    from onnx import TensorProto, helper

    put, out = (helper.make_tensor_value_info(name, TensorProto.BOOL, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Not", ["x"], ["y"])], "g", [put], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001  # onnxruntime's exceptions have no base class of their own
        return False
    return True
