"""Measures what releases of onnxruntime load, for `src/mlconv/runtimes/data/onnxruntime.json`.

    python benchmarks/runtime_tables.py probes PROBES CASES...      # models of one operator; CASES: folders of onnx's node tests
    python benchmarks/runtime_tables.py measure PROBES > 1.17.json  # in an environment with that onnxruntime; nothing else needed
    node benchmarks/runtime_probe.js PACKAGE PROBES > 1.12.json     # releases without a wheel: an unpacked onnxruntime-node
    python benchmarks/runtime_tables.py merge PROBES MEASURED... > src/mlconv/runtimes/data/onnxruntime.json

A release that lists its kernels (`get_all_opkernel_def`, in wheels since 1.16) is taken at its word, types included, and
every probe is loaded besides: an operator without a kernel that loads all the same is one that onnxruntime replaces by others.
Of older releases the probes alone tell; a version of an operator that no probe shows is taken from the next release.
A schema is no kernel: onnxruntime has schemas of operators, and of opsets, that it does not run.

CASES come from onnx itself: `onnx.backend.test.case.node.collect_testcases`, of every onnx release from 1.13 on, since
each holds the versions of operators that were new with it.
"""

from __future__ import annotations

import functools
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

_LACKS = (
    "Could not find an implementation",
    "not implemented",
)  # NOT_IMPLEMENTED, in Python's and node's words
_OPEN = 2147483647  # a kernel for one version of an operator and whatever extends it unchanged


def main(words: list[str]) -> None:
    match words:
        case ["probes", folder, *cases]:
            probes(Path(folder), [Path(case) for case in cases])
        case ["measure", folder]:
            json.dump(measured(Path(folder)), sys.stdout)
        case ["merge", folder, *files]:
            table = merged(Path(folder), [json.loads(Path(file).read_text()) for file in files])
            sys.stdout.write(written(table))
        case _:
            sys.exit(__doc__)


# ------------------------------------------------------------------ probes


def probes(folder: Path, cases: Iterable[Path]) -> None:
    """Write models to load: one per opset and IR version, the test cases, and those restamped to older opsets."""
    import onnx

    folder.mkdir(parents=True, exist_ok=True)
    for name, model in _limits():
        onnx.save(model, folder / f"{name}.onnx")
    native: dict[bytes, Any] = {}
    for path in sorted(file for case in cases for file in case.glob("*.onnx")):
        model = onnx.load(path)
        model.ir_version = _least_ir(model)
        model.producer_name = model.producer_version = ""
        native.setdefault(model.SerializeToString(deterministic=True), model)
    models = list(native.values())
    for index, model in enumerate([*models, *_restamped(models)]):
        onnx.save(model, folder / f"{'case' if index < len(models) else 'restamped'}-{index:05}.onnx")


def _limits() -> Iterator[tuple[str, Any]]:
    from onnx import TensorProto, helper

    def model(opset: int, ir_version: int, ml: int | None = None) -> Any:
        element = TensorProto.BOOL if ml is None else TensorProto.FLOAT
        put, out = (helper.make_tensor_value_info(name, element, [1]) for name in "xy")
        node = helper.make_node(
            "Not", ["x"], ["y"]
        )  # the same since opset 1: no newer version of it can be missing
        if ml is not None:
            node = helper.make_node("Normalizer", ["x"], ["y"], domain="ai.onnx.ml", norm="MAX")
        imports = [helper.make_opsetid("", opset)] + ([helper.make_opsetid("ai.onnx.ml", ml)] if ml else [])
        return helper.make_model(
            helper.make_graph([node], "probe", [put], [out]), opset_imports=imports, ir_version=ir_version
        )

    yield from ((f"limit-opset-{opset}", model(opset, 4)) for opset in range(7, 32))
    yield from ((f"limit-ir-{ir}", model(7, ir)) for ir in range(3, 16))
    yield from ((f"limit-ml-{ml}", model(7, 4, ml)) for ml in range(1, 9))


def _least_ir(model: Any) -> int:
    from onnx import helper

    least = int(helper.find_min_ir_version_for(list(model.opset_import), ignore_unknown=True))
    return max(least, 4, 8 if model.functions else 0)


def _restamped(models: Iterable[Any]) -> Iterator[Any]:
    """Cases of a newer version of an operator under opsets whose version no case has; what is invalid there does not load."""
    import onnx

    single = [model for model in models if len(model.graph.node) == 1 and model.graph.node[0].domain == ""]
    by_operator: dict[str, dict[int, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for model in single:
        name, opset = model.graph.node[0].op_type, _imports(model)[""]
        if onnx.defs.has(name, max_inclusive_version=opset):
            by_operator[name][onnx.defs.get_schema(name, opset).since_version].append(model)
    for name, versions in by_operator.items():
        for opset in range(7, min(versions)):
            if not onnx.defs.has(name, max_inclusive_version=opset):
                continue
            if max(7, onnx.defs.get_schema(name, opset).since_version) != opset:
                continue
            for model in versions[min(versions)][:8]:
                copy = type(model)()
                copy.CopyFrom(model)
                next(entry for entry in copy.opset_import if entry.domain == "").version = opset
                copy.ir_version = _least_ir(copy)
                yield copy


def _imports(model: Any) -> dict[str, int]:
    return {entry.domain: entry.version for entry in model.opset_import}


# ------------------------------------------------------------------ measuring


def measured(folder: Path) -> dict[str, Any]:
    """What the installed onnxruntime says of its kernels, and which probes it loads."""
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    loads = {}
    for path in sorted(folder.glob("*.onnx")):
        try:
            onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            loads[path.stem] = "yes"
        except Exception as error:  # noqa: BLE001  # onnxruntime's exceptions have no base class of their own
            loads[path.stem] = "lacks" if any(words in str(error) for words in _LACKS) else "no"
    return {"exact": onnxruntime.__version__, "kernels": registered(state), "loads": loads}


def registered(state: Any) -> list[Any] | None:
    """``[domain, name, first, last, {formal: [types]}]`` of every CPU kernel; None where the wheel does not tell them."""
    if not hasattr(state, "get_all_opkernel_def"):
        return None
    return [
        [kernel.domain, kernel.op_name, *kernel.version_range,
         {name: sorted(map(bare, types)) for name, types in kernel.type_constraints.items()}]
        for kernel in state.get_all_opkernel_def() if kernel.provider == "CPUExecutionProvider"
    ]  # fmt: skip


def bare(kind: str) -> str:
    """``tensor(float)`` as ``float``; sequences and optionals as they are."""
    return kind[7:-1] if kind.startswith("tensor(") else kind


# ------------------------------------------------------------------ the table

_HEAD = {
    "runtime": "onnxruntime",
    "title": "onnxruntime's CPU provider",
    "basis": "measured",
    "grows": True,
    "source": "measured by benchmarks/runtime_tables.py on the published packages (x86-64 Linux)",
}
_LOADED = (
    "of this release each operator version was tried by loading models; kernel types were not listed, so types are not "
    "checked, and operators of com.microsoft are taken from 1.16"
)
_ORT_FORMATS = {"1.10": [4], "1.13": [5], "1.16": [5, 6]}
"""From which release on which versions load; measured by loading files that 1.15 to 1.31 wrote, older ones by their refusals."""

_REFUSES = [
    ["1.14-1.16", "", name, "float16", 18] for name in ("LayerNormalization", "LogSoftmax", "Softmax")
]
"""Measured in float16 models of one operator at opsets 13 to 21: without a float16 kernel these releases put in the operator's
function, written for an older opset, and refuse that (`Unrecognized attribute: axes for operator ReduceMax`)."""

_DOCUMENTED = {
    "1.8": {"exact": "1.8", "opset": 14, "ir": 7},
    "1.9": {"exact": "1.9", "opset": 15, "ir": 7},
}
_DOCUMENTED_ROW = {
    "basis": "documented",
    "source": "onnxruntime's docs/Versioning.md, the table of opsets and IR versions",
    "note": "nothing tells the kernels of this release: those of 1.10 are taken",
}


def merged(folder: Path, releases: list[dict[str, Any]]) -> dict[str, Any]:
    """The table of ``mlconv.runtimes.table``."""
    releases.sort(key=lambda told: _version(told["exact"]))
    names = [".".join(told["exact"].split(".")[:2]) for told in releases]
    used = cases(folder)
    rows: list[set[Row]] = []
    for told in reversed(releases):
        if told["kernels"] is None:
            rows.append(_by_loading(told, used, rows[-1]))
        else:
            rows.append(_by_kernels(told, used))
    rows.reverse()
    heads = {
        name: {"exact": told["exact"], **{key: newest(told["loads"], key) for key in ("opset", "ir", "ml")},
               **({} if told["kernels"] else {"note": _LOADED})}
        for name, told in zip(names, releases, strict=True)
    }  # fmt: skip
    documented = {name: {**row, **_DOCUMENTED_ROW} for name, row in _DOCUMENTED.items()}
    heads, rows = {**documented, **heads}, [*(rows[0] for _ in documented), *rows]
    formats: list[int] = []
    for name, head in heads.items():
        formats = _ORT_FORMATS.get(name, formats)
        head["ort_formats"] = formats
    return {**_HEAD, "refuses": _REFUSES, "releases": heads, **compressed(list(heads), rows)}


Row = tuple[str, str, str, tuple[tuple[str, str], ...]]  # domain, name, versions, types of each formal


def _by_kernels(told: dict[str, Any], used_by: dict[str, Any]) -> set[Row]:
    """Its kernels, and a row for every operator that loads although no kernel takes it."""
    from mlconv.runtimes.operators import served
    from mlconv.runtimes.table import Kernel

    rows: set[Row] = {("", "Constant", "1+", ())}  # becomes an initializer before kernels are looked for
    kernels: dict[tuple[str, str], list[Kernel]] = defaultdict(list)
    for domain, name, first, last, types in told["kernels"]:
        formals = tuple(sorted((formal, " ".join(kinds)) for formal, kinds in types.items()))
        rows.add((domain, name, str(first) if last in (first, _OPEN) else f"{first}-{last}", formals))
        end = first if last == _OPEN else last
        kernels[domain, name].append(
            Kernel(first, end, {formal: frozenset(kinds) for formal, kinds in types.items()})
        )
    for probe, used in used_by.items():
        if told["loads"].get(probe) != "yes":
            continue
        rows |= {
            (operator.domain, operator.name, str(operator.version), ())
            for operator in used
            if not served(operator, kernels[operator.domain, operator.name]) and operator.name != "Constant"
        }
    return rows


def _by_loading(told: dict[str, Any], used_by: dict[str, Any], newer: set[Row]) -> set[Row]:
    """What its probes show; an operator version that none shows as the next release has it, without types."""
    shown: dict[tuple[str, str, int], set[str]] = defaultdict(set)
    for probe, used in used_by.items():
        loaded = told["loads"].get(probe, "no")
        if loaded == "yes" or len(used) == 1:
            for operator in used:
                shown[operator.domain, operator.name, operator.version].add(loaded)
    limits = {"": newest(told["loads"], "opset"), "ai.onnx.ml": newest(told["loads"], "ml")}
    decided = {key: "yes" in found for key, found in shown.items() if found & {"yes", "lacks"}}
    rows = {(domain, name, str(version), ()) for (domain, name, version), has in decided.items() if has}
    for domain, name, versions, _ in newer:
        for version in _versions_within(domain, name, versions, limits.get(domain)):
            if (domain, name, version) not in decided:
                rows.add((domain, name, str(version), ()))
    return rows | {("", "Constant", "1+", ())}


def _versions_within(domain: str, name: str, versions: str, limit: int | None) -> Iterator[int]:
    first, _, last = versions.rstrip("+").partition("-")
    if limit is None:
        yield int(first)
        return
    for version in _history().get((domain, name), ()):
        if int(first) <= version <= min(int(last or first), limit):
            yield version


@functools.cache
def _history() -> dict[tuple[str, str], list[int]]:
    import onnx

    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    for schema in onnx.defs.get_all_schemas_with_history():
        found[schema.domain, schema.name].append(schema.since_version)
    return found


def cases(folder: Path) -> dict[str, Any]:
    """The operators of each probe."""
    import onnx

    from mlconv.runtimes.operators import operators

    paths = [path for path in sorted(folder.glob("*.onnx")) if not path.stem.startswith("limit-")]
    return {path.stem: operators(onnx.load(path)) for path in paths}


def newest(loads: dict[str, str], kind: str) -> int:
    return max(
        int(probe.rpartition("-")[2])
        for probe, told in loads.items()
        if probe.startswith(f"limit-{kind}-") and told == "yes"
    )


def compressed(names: list[str], rows: list[set[Row]]) -> dict[str, Any]:
    """Each row once with the releases that have it, types by number."""
    types: dict[str, int] = {}
    operators: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for row in sorted(set().union(*rows), key=_order):
        domain, name, versions, formals = row
        told: list[Any] = [_ranges(names, [row in each for each in rows]), versions]
        if formals:
            told.append({formal: types.setdefault(kinds, len(types)) for formal, kinds in formals})
        operators[domain][name].append(told)
    return {"types": list(types), "operators": operators}


def _order(row: Row) -> tuple[str, str, int, Row]:
    return row[0], row[1], int(row[2].rstrip("+").partition("-")[0]), row


def _ranges(names: list[str], there: list[bool]) -> str:
    found: list[list[str]] = []
    for index, name in enumerate(names):
        if there[index] and index and there[index - 1]:
            found[-1][1:] = [name]
        elif there[index]:
            found.append([name])
    return ",".join("-".join(ends) for ends in found)


def written(table: dict[str, Any]) -> str:
    """One line per release and per operator: a new release shows as few changed lines."""
    parts = []
    for key, value in table.items():
        if key == "types":
            parts.append(_block(key, "[]", (json.dumps(kinds) for kinds in value)))
        elif key == "releases":
            parts.append(
                _block(key, "{}", (f"{json.dumps(name)}: {json.dumps(row)}" for name, row in value.items()))
            )
        elif key == "operators":
            domains = (
                f"{json.dumps(domain)}: {{\n   "
                + ",\n   ".join(f"{json.dumps(name)}: {json.dumps(rows)}" for name, rows in named.items())
                + "\n  }"
                for domain, named in value.items()
            )
            parts.append(_block(key, "{}", domains))
        else:
            parts.append(f"{json.dumps(key)}: {json.dumps(value)}")
    return "{\n " + ",\n ".join(parts) + "\n}\n"


def _block(key: str, ends: str, lines: Iterable[str]) -> str:
    return f"{json.dumps(key)}: {ends[0]}\n  " + ",\n  ".join(lines) + f"\n {ends[1]}"


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


if __name__ == "__main__":
    main(sys.argv[1:])
