"""What `--runtime` does: versions are chosen before a conversion, an artifact is held against the table after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlconv.errors import OptionNotAccepted, RuntimeLacksOperator, UnsupportedOpset
from mlconv.formats.refs import for_shell
from mlconv.runtimes import table
from mlconv.runtimes.operators import Lack, at_opset, first_with, has, is_replaced, lacking, named, operators
from mlconv.runtimes.table import Runtime
from mlconv.runtimes.wrong_kernels import WrongKernel, wrong_in

if TYPE_CHECKING:
    from onnx import ModelProto

    from mlconv.convert.job import Options
    from mlconv.formats import ModelFile

DEFAULT_OPSET = 18
OLDEST_OPSET = 13
"""The oldest that `--opset` takes, see ``convert.onnx_graph.versions``."""

_WRITTEN_ORT_FORMAT = (
    6  # by onnxruntime since 1.16: kOrtModelVersion of onnxruntime/core/flatbuffers/ort_format_version.h
)
_SHOWN = 12
_BETWEEN = ("Cast", "Identity", "Reshape", "Shape")


# ------------------------------------------------------------------ before a conversion


def with_versions(options: Options, source: ModelFile, target: str) -> Options:
    """The options with the opset that suits ``--runtime``, where one was asked for.

    An ONNX source keeps its opset where the runtime has all its operators there; else it gets the newest opset below at which
    the runtime has them, by name and version. Other sources get 18, or the newest that the runtime loads.

    Raises:
        UnknownRuntime: No table has it.
        UnsupportedOpset: The opset that was asked for is newer than the runtime loads.
        RuntimeLacksOperator: The source is ONNX, and holds operators that the runtime has at no opset.
        OptionNotAccepted: The runtime does not load files of the target.
    """
    if options.runtime is None:
        return options
    runtime = table.find(options.runtime)
    _assert_target(runtime, options.runtime, source.ref, target)
    if options.opset is not None:
        _assert_opset(options.opset, runtime)
        return options
    if source.format != "onnx" or source.path is None:
        return replace(options, opset=min(DEFAULT_OPSET, _newest_for(runtime, options) or DEFAULT_OPSET))
    return replace(options, opset=_suited(source.path, runtime, options))


def _newest_for(runtime: Runtime, options: Options) -> int | None:
    """The newest opset that the runtime loads in the precision that was asked for."""
    if options.precision != "fp16":
        return runtime.opset
    clean = [
        refusal.from_opset - 1
        for refusal in runtime.refusals()
        if refusal.kind == "float16" and refusal.from_opset > OLDEST_OPSET
    ]
    return min(clean, default=runtime.opset) if runtime.opset is None else min([runtime.opset, *clean])


def _assert_target(runtime: Runtime, asked: str, ref: str, target: str) -> None:
    if target != "ort" or _WRITTEN_ORT_FORMAT in runtime.ort_formats:
        return
    told = ", ".join(map(str, runtime.ort_formats))
    why = f"it loads version {told} of the ORT format, and onnxruntime has written {_WRITTEN_ORT_FORMAT} since 1.16"
    raise OptionNotAccepted(
        f"`--runtime {asked}` cannot be met by an ORT file", why=why if told else f"{runtime.label} loads no such files",
        fix=f"mlconv onnx {for_shell(ref)} --runtime {asked}",
    )  # fmt: skip


def _assert_opset(opset: int, runtime: Runtime) -> None:
    if runtime.opset is not None and opset > runtime.opset:
        raise UnsupportedOpset(
            f"--opset {opset}: {runtime.label} loads none newer than {runtime.opset}",
            fix=f"--opset {runtime.opset}, or leave --opset out",
        )


def _suited(path: Path, runtime: Runtime, options: Options) -> int | None:
    """The opset for an ONNX file; None where it keeps its own, whatever the reason.

    Raises:
        RuntimeLacksOperator: Operators that the runtime has at no opset.
    """
    from mlconv.formats.onnx_file import load

    proto = load(path)
    own, limit = opset_of(proto), _newest_for(runtime, options)
    newest = own if limit is None else min(own, limit)
    best = _newest_without_lack(proto, runtime, newest)
    if best is None and not options.outputs:  # which may cut them off
        _assert_somewhere(proto, runtime, newest)
    chosen = best if best is not None else _complete(runtime, newest)
    return None if chosen == own else chosen


def _assert_somewhere(proto: ModelProto, runtime: Runtime, newest: int) -> None:
    """Refuse operators that no opset helps with, before anything runs."""
    own, opsets = opset_of(proto), range(newest, OLDEST_OPSET - 1, -1)

    def helps(lack: Lack) -> bool:
        operator = lack.operator
        return operator.domain == "" and any(
            is_replaced(operator.name, own, opset) or has(runtime, named(operator.name, opset))
            for opset in opsets
        )

    lacks = tuple(lack for lack in lacking(proto, runtime, typed=False) if not helps(lack))
    if lacks:
        raise _refusal(Fit(runtime, own, proto.ir_version, (), lacks), fix=_newer(lacks, runtime))


def _complete(runtime: Runtime, newest: int) -> int:
    """The newest opset at which the runtime has what stands between operators: onnxruntime 1.15 loads opset 19 without them."""
    for opset in range(newest, OLDEST_OPSET, -1):
        if all(has(runtime, named(name, opset)) for name in _BETWEEN):
            return opset
    return newest


def _newest_without_lack(proto: ModelProto, runtime: Runtime, newest: int) -> int | None:
    """The newest opset, from ``newest`` down, at which the runtime has every operator that the model is made of.

    By name and version alone, and of the operators as they are. Those that are newer than an opset and functions of others are
    left out: changing the opset replaces them.
    """
    own = opset_of(proto)
    used = operators(proto, typed=False)
    others = [operator for operator in used if operator.domain != ""]
    names = {operator.name for operator in used if operator.domain == ""}
    if not all(has(runtime, operator) for operator in others):
        return None
    for opset in range(newest, OLDEST_OPSET - 1, -1):
        if all(is_replaced(name, own, opset) or has(runtime, named(name, opset)) for name in names):
            return opset
    return None


def opset_of(proto: ModelProto) -> int:
    """The version of the default domain that a model imports; 1 where it imports none."""
    return max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=1)


def within(installed: tuple[int, int], asked: str | None) -> tuple[int, int]:
    """Newest opset and IR version that both the installed onnxruntime and the runtime that was asked for load.

    What is made must load here too, or nothing could be shown of it.
    """
    if asked is None:
        return installed
    runtime = table.find(asked)
    opset, ir_version = installed
    return min(opset, runtime.opset or opset), min(ir_version, runtime.ir_version or ir_version)


# ------------------------------------------------------------------ after it


@dataclass(frozen=True, slots=True)
class Fit:
    """A file against a runtime.

    Attributes:
        versions: What is wrong with its opset and IR version; empty where nothing is.
        lacks: The operators that the runtime has not.
        wrong: Operators that it has, loads, and is known to compute wrong. They do not keep a file from fitting.
    """

    runtime: Runtime
    opset: int
    ir_version: int
    versions: tuple[str, ...]
    lacks: tuple[Lack, ...]
    wrong: tuple[WrongKernel, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to tell of a file that fits."""
        stands = (self.runtime.warning,) if self.runtime.warning else ()
        told = (f"{self.runtime.label} is known to compute wrong {kernel.told}" for kernel in self.wrong)
        return (*stands, *told)

    @property
    def ok(self) -> bool:
        return not self.versions and not self.lacks

    def to_json(self, asked: str) -> dict[str, Any]:
        """The entry ``runtime`` of a record's checks."""
        runtime = self.runtime
        return {
            "ok": self.ok, "asked": asked, "name": runtime.name, "release": runtime.release, "measured": runtime.exact,
            "opset": self.opset, "ir_version": self.ir_version, "newest_opset": runtime.opset,
            "newest_ir_version": runtime.ir_version, "basis": runtime.basis, "source": runtime.source, "note": runtime.note,
            "wrong_kernels": [kernel.to_json() for kernel in self.wrong],
        }  # fmt: skip


def fit(path: Path, runtime: Runtime) -> Fit:
    """Hold an ONNX or ORT file against a runtime; weights are not read, and nothing is run.

    Raises:
        Corrupt: The file cannot be read.
    """
    from mlconv.formats import ort_file
    from mlconv.formats.onnx_file import load

    with path.open("rb") as file:
        is_ort = ort_file.is_ort(file.read(8))
    proto = ort_file.load(path) if is_ort else load(path)
    opset, wrong = opset_of(proto), []
    if runtime.opset is not None and opset > runtime.opset:
        wrong.append(f"opset {opset} is newer than {runtime.label} loads ({runtime.opset})")
    if runtime.ir_version is not None and proto.ir_version > runtime.ir_version:
        wrong.append(
            f"IR version {proto.ir_version} is newer than {runtime.label} loads ({runtime.ir_version})"
        )
    if is_ort and _WRITTEN_ORT_FORMAT not in runtime.ort_formats:
        wrong.append(f"it is an ORT file, and {_formats(runtime)}")
    return Fit(
        runtime, opset, proto.ir_version, tuple(wrong), lacking(proto, runtime), wrong_in(proto, runtime)
    )


def loads_ort(asked: str) -> bool:
    """Whether a runtime loads the ORT files that are written today.

    Raises:
        UnknownRuntime: No table has it.
    """
    return _WRITTEN_ORT_FORMAT in table.find(asked).ort_formats


def _formats(runtime: Runtime) -> str:
    if not runtime.ort_formats:
        return f"{runtime.label} loads none"
    return f"{runtime.label} loads version {', '.join(map(str, runtime.ort_formats))} of that format, not {_WRITTEN_ORT_FORMAT}"


def assert_fits(asked: str, graph: Path, packed: Path) -> Fit:
    """Hold what a conversion made against ``--runtime``: its ONNX graph, and the file packed of it where that is another.

    Raises:
        RuntimeLacksOperator: The message names all operators that are not there.
    """
    found = fit(graph, table.find(asked))
    if found.ok and packed != graph:
        found = fit(packed, found.runtime)
        if found.lacks:
            raise _refusal(
                found,
                fix=f"--no-optimize writes the graph without fused operators; or {_newer(found.lacks, found.runtime)}",
            )
    if found.lacks:
        raise _refusal(found, fix=_cure(graph, found))
    if found.versions:
        raise RuntimeLacksOperator(
            "; ".join(found.versions), fix=f"--runtime {table.newest(found.runtime.name).asked_as}"
        )
    return found


def _refusal(found: Fit, fix: str) -> RuntimeLacksOperator:
    runtime, count = found.runtime, len(found.lacks)
    told = "an operator" if count == 1 else f"{count} operators"
    return RuntimeLacksOperator(
        f"{runtime.label} lacks {told} of the model at opset {found.opset}: {shown(found.lacks, limit=count)}",
        why=f"per {_per(runtime)}", fix=fix,
    )  # fmt: skip


def _per(runtime: Runtime) -> str:
    return f"the kernels of {runtime.name} {runtime.exact}" if runtime.basis == "measured" else runtime.source


def _cure(graph: Path, found: Fit) -> str:
    from mlconv.formats.onnx_file import load

    lower = _newest_without_lack(load(graph), found.runtime, found.opset - 1)
    newer = _newer(found.lacks, found.runtime)
    cures = lower is not None and all(_is_cured(lack, found, lower) for lack in found.lacks)
    return f"--opset {lower}; or {newer}" if cures else newer


def _is_cured(lack: Lack, found: Fit, opset: int) -> bool:
    """Whether an older opset has an operator that the runtime has for the same types, or makes it of others."""
    operator = lack.operator
    if operator.domain:
        return False
    return is_replaced(operator.name, found.opset, opset) or has(found.runtime, at_opset(operator, opset))


def _newer(lacks: Sequence[Lack], runtime: Runtime) -> str:
    """The oldest later release of the table that has all of them, else how to do without."""
    release = first_with(runtime, [lack.operator for lack in lacks])
    if release is not None:
        return f"a newer runtime: --runtime {runtime.name}=={release}"
    return "cut the model before them with --outputs, or compute it another way and export it again"


def shown(lacks: Sequence[Lack], limit: int = _SHOWN) -> str:
    """Operators with the reason of each."""
    told = ", ".join(lack.shown for lack in lacks[:limit])
    return told + (f" and {len(lacks) - limit} more" if len(lacks) > limit else "")


# ------------------------------------------------------------------ check


def findings(path: Path, asked: str) -> list[tuple[str, bool | None, str]]:
    """The lines of `mlconv check --runtime`: name, whether it holds, what was found."""
    runtime = table.find(asked)
    found = fit(path, runtime)
    versions = (
        "; ".join(found.versions)
        or f"opset {found.opset}, IR version {found.ir_version}; it loads up to {_newest(runtime)}"
    )
    per = f"per {_per(runtime)}{'; ' + runtime.note if runtime.note else ''}"
    lacks = f"it lacks {shown(found.lacks)}" if found.lacks else "it has all of them"
    unknown = runtime.opset is None and runtime.ir_version is None and not found.versions
    return [
        (f"{runtime.label}: versions", None if unknown else not found.versions, versions if not unknown else "its list tells none"),
        (f"{runtime.label}: operators", not found.lacks, f"{lacks}, {per}"),
        *((f"{runtime.label}: results", None, f"not run there, and known to be wrong: {kernel.told}") for kernel in found.wrong),
    ]  # fmt: skip


def _newest(runtime: Runtime) -> str:
    told = [f"opset {runtime.opset}"] if runtime.opset is not None else []
    return ", ".join(
        [*told, *([f"IR version {runtime.ir_version}"] if runtime.ir_version is not None else [])]
    )
