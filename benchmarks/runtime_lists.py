"""Tables of runtimes other than onnxruntime, for `src/mlconv/runtimes/data`.

    python benchmarks/runtime_lists.py openvino-measure PROBES > 2025.4.json   # with that openvino; PROBES of runtime_tables.py
    python benchmarks/runtime_lists.py openvino PROBES MEASURED... > openvino.json
    python benchmarks/runtime_lists.py tensorrt REPOSITORY > tensorrt.json     # a clone of onnx/onnx-tensorrt
    python benchmarks/runtime_lists.py webgl PACKAGE... > ort-web-webgl.json   # `npm pack onnxruntime-web@1.20`, not unpacked
    python benchmarks/runtime_lists.py web > ort-web.json

OpenVINO was measured by reading the probes into its own form (`Core.read_model`). For TensorRT and WebGL the lists that their
authors publish with each release are read: names and versions of operators, nothing else.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from runtime_tables import Row, cases, compressed, written  # beside this file

_TENSORRT_BRANCHES = {
    "8.0": "8.0-GA", "8.2": "8.2-GA", "8.4": "8.4-GA", "8.5": "8.5-GA", "8.6": "8.6-GA", "9.0": "9.0-GA", "9.1": "9.1", "9.2": "9.2",
    "9.3": "9.3", "10.0": "10.0-GA", "10.1": "10.1-GA",
}  # fmt: skip
_WEB_RELEASES = [f"1.{minor}" for minor in range(15, 28)]


def main(words: list[str]) -> None:
    match words:
        case ["openvino-measure", folder]:
            json.dump(openvino_measured(Path(folder)), sys.stdout)
        case ["openvino-child"]:
            openvino_child(sys.stdin.read().split("\n"))
        case ["openvino", folder, *files]:
            sys.stdout.write(
                written(openvino(Path(folder), [json.loads(Path(file).read_text()) for file in files]))
            )
        case ["tensorrt", repository]:
            sys.stdout.write(written(tensorrt(repository)))
        case ["webgl", *packages]:
            sys.stdout.write(written(webgl([Path(package) for package in packages])))
        case ["web"]:
            sys.stdout.write(written(web()))
        case _:
            sys.exit(__doc__)


# ------------------------------------------------------------------ OpenVINO


def openvino_measured(folder: Path) -> dict[str, Any]:
    """Which probes the installed OpenVINO reads; in a child process, since some of them crash it: that one is not read."""
    import openvino

    paths, told = sorted(folder.glob("*.onnx")), []
    while len(told) < len(paths):
        rest = "\n".join(map(str, paths[len(told) :]))
        child = subprocess.run(
            [sys.executable, __file__, "openvino-child"],
            input=rest,
            capture_output=True,
            text=True,
            check=False,
        )
        told += child.stdout.split()
        if len(told) < len(paths):
            told.append("no")
    loads = {path.stem: word for path, word in zip(paths, told, strict=True)}
    return {"exact": openvino.__version__.partition("-")[0], "loads": loads}


def openvino_child(paths: Iterable[str]) -> None:
    """One word a model: ``yes``, ``lacks`` or ``no``."""
    import openvino

    core = openvino.Core()
    for path in paths:
        try:
            core.read_model(path)
            print("yes", flush=True)
        except Exception as error:  # noqa: BLE001  # one class for all that goes wrong
            print("lacks" if "No conversion rule found" in str(error) else "no", flush=True)


def openvino(folder: Path, releases: list[dict[str, Any]]) -> dict[str, Any]:
    releases.sort(key=lambda told: [int(part) for part in told["exact"].split(".")])
    used = cases(folder)
    rows = [_openvino_rows(told["loads"], used) for told in releases]
    heads = {
        ".".join(told["exact"].split(".")[:2]): {"exact": told["exact"], "opset": None, "ir": None}
        for told in releases
    }
    return {
        "runtime": "openvino", "title": "OpenVINO's ONNX front end", "basis": "measured", "grows": True,
        "source": "measured by benchmarks/runtime_lists.py on the published packages (x86-64 Linux)",
        "note": "it reads models of any opset and IR version; what it reads may still hold what a device does not compile",
        "releases": heads, **compressed(list(heads), rows),
    }  # fmt: skip


def _openvino_rows(loads: dict[str, str], used: dict[str, Any]) -> set[Row]:
    """An operator of which every version that was tried is read counts as read in versions that were not tried too."""
    shown: dict[tuple[str, str], dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for probe, operators in used.items():
        told = loads.get(probe, "no")
        if told == "yes" or len(operators) == 1:
            for operator in operators:
                shown[operator.domain, operator.name][operator.version].add(told)
    rows: set[Row] = {("", "Constant", "1+", ())}
    for (domain, name), versions in shown.items():
        decided = {version: "yes" in told for version, told in versions.items() if told & {"yes", "lacks"}}
        if decided and all(decided.values()):
            rows.add((domain, name, "1+", ()))
        else:
            rows |= {(domain, name, str(version), ()) for version, has in decided.items() if has}
    return rows


# ------------------------------------------------------------------ published lists


def tensorrt(repository: str) -> dict[str, Any]:
    heads: dict[str, Any] = {}
    rows: list[set[Row]] = []
    for release, branch in _TENSORRT_BRANCHES.items():
        commit = _git(repository, "rev-parse", branch).strip()
        text = _git(repository, "show", f"{commit}:docs/operators.md")
        told = re.search(r"opset (\d+)\.", text, re.IGNORECASE) or re.search(
            r"to opset (\d+)", text, re.IGNORECASE
        )
        heads[release] = {
            "exact": release, "opset": int(told[1]) if told else None, "ir": None,
            "source": f"docs/operators.md of onnx/onnx-tensorrt, commit {commit[:12]}",
        }  # fmt: skip
        supported = re.findall(r"^\| *(\w+) *\| *Y\b", text, re.MULTILINE)
        rows.append({("", name, "1+", ()) for name in supported})
    return {
        "runtime": "tensorrt", "title": "TensorRT's ONNX parser", "basis": "documented", "grows": True,
        "source": "docs/operators.md of onnx/onnx-tensorrt",
        "note": "that list has names alone: versions of operators are not checked, nor are its restrictions on types and attributes",
        "releases": heads, **compressed(list(heads), rows),
    }  # fmt: skip


def _git(repository: str, *words: str) -> str:
    return subprocess.run(
        ["git", "-C", repository, *words], capture_output=True, text=True, check=True
    ).stdout


def webgl(packages: Iterable[Path]) -> dict[str, Any]:
    heads: dict[str, Any] = {}
    rows: list[set[Row]] = []
    texts = {}
    for package in packages:
        with tarfile.open(package) as archive:
            exact = json.loads(_member(archive, "package/package.json"))["version"]
            if "package/docs/webgl-operators.md" in archive.getnames():
                texts[exact] = _member(archive, "package/docs/webgl-operators.md")
    for exact in sorted(texts, key=lambda text: [int(part) for part in text.split(".")]):
        heads[".".join(exact.split(".")[:2])] = {
            "exact": exact, "opset": None, "ir": None,
            "source": f"docs/webgl-operators.md of the npm package onnxruntime-web {exact}",
        }  # fmt: skip
        found: set[Row] = {("", "Constant", "1+", ())}  # becomes an initializer: lib/onnxjs/graph.ts
        for name, versions in re.findall(r"^\| \[(\w+)\]\([^)]*\) \| (.*?) ?\|$", texts[exact], re.MULTILINE):
            found |= {("", name, span, ()) for span in re.findall(r"\[([\d+-]+)\]", versions)}
        rows.append(found)
    return {
        "runtime": "ort-web-webgl", "title": "onnxruntime-web's WebGL backend", "basis": "documented", "grows": True,
        "source": "docs/webgl-operators.md of the npm package onnxruntime-web",
        "note": "that list tells no types: WebGL computes in float32",
        "releases": heads, **compressed(list(heads), rows),
    }  # fmt: skip


def _member(archive: tarfile.TarFile, name: str) -> str:
    file = archive.extractfile(name)
    assert file is not None, name
    return file.read().decode().replace("\r\n", "\n")


def web() -> dict[str, Any]:
    """The rows of onnxruntime itself: its CPU kernels compiled to WebAssembly.

    Checked by loading the probes in node: 1.20.1 loads what 1.20.1's wheel loads (4,158 of 4,158, but for one whose locale is
    not there), 1.27.0 too, but for graph inputs and outputs of types that its JavaScript API does not take.
    """
    path = Path(__file__).parents[1] / "src/mlconv/runtimes/data/onnxruntime.json"
    table = json.loads(path.read_text())
    keys = ("exact", "opset", "ir", "ort_formats")
    heads = {release: {key: table["releases"][release][key] for key in keys} for release in _WEB_RELEASES}
    return {
        "runtime": "ort-web", "title": "onnxruntime-web on WebAssembly", "basis": "measured", "grows": True,
        "source": "the CPU kernels of the same release of onnxruntime; loading agreed for 1.20 and 1.27",
        "note": "its JavaScript API takes no bfloat16 or float8 inputs and outputs; WebGPU leaves to WebAssembly what it lacks",
        "operators_of": "onnxruntime", "releases": heads,
    }  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
