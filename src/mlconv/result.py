"""Results of commands as frozen values, and their two renderings: the JSON document and the terminal's text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

from mlconv.checks.parity_words import output_line, parity_words
from mlconv.errors import VerdictError, counted
from mlconv.jsonable import to_json
from mlconv.tensors import TensorSpec, show_shape
from mlconv.visible import one_line

# ------------------------------------------------------------------ conversions


@dataclass(frozen=True, slots=True)
class Source:
    """Where an artifact came from.

    Attributes:
        weights: Where a module's parameters came from: a file, ``constructor``, ``live`` for a model of the caller's process;
            None where the source holds them.
        weights_sha256: Of that file; of shards, that of the sorted ``name:sha256`` lines, the index included.
    """

    ref: str
    format: str
    sha256: str | None
    bytes: int | None
    weights: str | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    weights_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Artifact:
    """What was produced.

    Attributes:
        path: As the user gave it.
        files: Names of all its files; external data lies beside it.
        written: Whether it stands at ``path``: it does not where evidence failed.
    """

    path: str
    format: str
    sha256: str
    bytes: int
    opset: int | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: int = 0
    files: tuple[str, ...] = ()
    written: bool = True


@dataclass(frozen=True, slots=True)
class Attempt:
    """A converter that was tried before the one that did it."""

    converter: str
    error: str
    what: str


@dataclass(frozen=True, slots=True)
class Step:
    """One converter of a route; ``exporter`` is the tool that it used in the end, ``settings`` what it chose by itself."""

    source: str
    target: str
    converter: str
    exporter: str
    versions: dict[str, str]
    seconds: float
    attempts: tuple[Attempt, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        told = to_json(self)
        return {"from": told.pop("source"), "to": told.pop("target"), **told}


@dataclass(frozen=True, slots=True)
class Conversion:
    """``mlconv.convert/1``.

    Attributes:
        checks: ``structure``, ``load`` and ``parity``, as JSON; ``parity`` is None where nothing was compared.
        failure: The first piece of evidence that says no, or None.
    """

    ok: bool
    source: Source
    artifact: Artifact
    route: tuple[Step, ...]
    checks: dict[str, Any]
    warnings: tuple[str, ...]
    seconds: float
    failure: VerdictError | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "mlconv.convert/1", "ok": self.ok, "source": _with_specs(self.source), "artifact": _with_specs(self.artifact),
            "route": [step.to_json() for step in self.route], "checks": self.checks, "warnings": list(self.warnings),
            "seconds": round(self.seconds, 3), "failure": _failure(self.failure),
        }  # fmt: skip

    def raise_for_verdict(self) -> Self:
        """Itself, where every piece of evidence holds.

        Raises:
            VerdictError: What says no, as an exception.
        """
        if self.failure is not None:
            raise self.failure
        return self

    def __repr__(self) -> str:
        told = f"{self.source.ref} -> {self.artifact.path}{'' if self.artifact.written else ' (not written)'}"
        return _short(self, f"{told}; {' · '.join(self._evidence())}", self.failure)

    def _repr_html_(self) -> str:
        from mlconv import notebook

        return notebook.conversion(self)

    def summary(self) -> str:
        """Two lines: what was made, and what was shown."""
        name = self.artifact.path
        tools = ", ".join(dict.fromkeys(step.exporter for step in self.route))
        facts = [f"opset {self.artifact.opset}"] if self.artifact.opset else []
        facts += [
            counted(self.artifact.operators, "operator"),
            show_bytes(self.artifact.bytes),
            tools,
            f"{self.seconds:.1f} s",
        ]
        head = f"{self.source.ref} ({self.source.format}) -> {name}   {', '.join(facts)}"
        return f"{one_line(head)}\n  {one_line(' · '.join(self._evidence()))}"

    def _evidence(self) -> list[str]:
        structure, load, parity = (self.checks.get(key) for key in ("structure", "load", "parity"))
        told = ["structure ok" if structure and structure["ok"] else "structure FAILED"]
        if load:
            told.append(f"{'loads' if load['ok'] else 'does NOT load'} in {load['runtime']}")
        fits = self.checks.get("runtime")
        if fits:
            told.append(
                f"opset, IR version and kernels fit {fits['name']} {fits['release']}, which was not run"
            )
        where = f" in {load['runtime']}" if fits and load else ""
        told.append(f"parity{where} {parity_words(parity)}" if parity else "parity not compared")
        return told


def show_bytes(count: int) -> str:
    """Decimal units, as disks and download pages count."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


# ------------------------------------------------------------------ check and compare


@dataclass(frozen=True, slots=True)
class CheckLine:
    """One check: True, False, or None where it does not apply or could not be made.

    Attributes:
        hint: What to type next, where the failure is a known one.
    """

    name: str
    ok: bool | None
    detail: str
    hint: str | None = None

    def to_json(self) -> dict[str, Any]:
        told: dict[str, Any] = to_json(self)
        return told if self.hint is not None else {key: told[key] for key in ("name", "ok", "detail")}


@dataclass(frozen=True, slots=True)
class Checked:
    """``mlconv.check/1``."""

    ref: str
    format: str
    checks: tuple[CheckLine, ...]
    warnings: tuple[str, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        return not any(line.ok is False for line in self.checks)

    def __repr__(self) -> str:
        failed = [f"{line.name}: {line.detail}" for line in self.checks if line.ok is False]
        return _short(self, "; ".join([f"{self.ref} ({self.format})", *failed]), None)

    def _repr_html_(self) -> str:
        from mlconv import notebook

        return notebook.checked(self)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "mlconv.check/1", "ok": self.ok, "source": {"ref": self.ref, "format": self.format},
            "checks": [line.to_json() for line in self.checks], "warnings": list(self.warnings), "seconds": round(self.seconds, 3),
        }  # fmt: skip

    def text(self) -> str:
        marks = {True: "ok     ", False: "FAILED ", None: "skipped"}
        width = max((len(line.name) for line in self.checks), default=0)
        lines = [f"{self.ref} ({self.format})"]
        lines += [
            f"  {marks[line.ok]} {line.name.ljust(width)}  {line.detail}".rstrip() for line in self.checks
        ]
        return "\n".join(map(one_line, lines))


@dataclass(frozen=True, slots=True)
class Compared:
    """``mlconv.compare/1``."""

    reference: str
    candidate: str
    parity: dict[str, Any]
    warnings: tuple[str, ...]
    seconds: float
    failure: VerdictError | None = None

    @property
    def ok(self) -> bool:
        return self.failure is None

    def raise_for_verdict(self) -> Self:
        """Itself, where the candidate agrees.

        Raises:
            VerdictError: How it does not.
        """
        if self.failure is not None:
            raise self.failure
        return self

    def __repr__(self) -> str:
        told = f"{self.reference} against {self.candidate}; parity {parity_words(self.parity)}"
        return _short(self, told, self.failure)

    def _repr_html_(self) -> str:
        from mlconv import notebook

        return notebook.compared(self)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "mlconv.compare/1", "ok": self.ok,
            "reference": {"ref": self.reference, "runner": self.parity["reference"], "kernels": self.parity["kernels"]},
            "candidate": {"ref": self.candidate, "runner": self.parity["candidate"]},
            **{key: self.parity[key] for key in ("data", "preprocess", "seed", "samples", "computes", "informative", "outputs", "notes")},
            "warnings": list(self.warnings), "seconds": round(self.seconds, 3), "failure": _failure(self.failure),
        }  # fmt: skip

    def text(self) -> str:
        ours, theirs = (
            f"{ref} ({self.parity[key]})"
            for key, ref in (("reference", self.reference), ("candidate", self.candidate))
        )
        lines = [f"  {output_line(row, self.parity['computes'])}" for row in self.parity["outputs"]]
        return "\n".join(
            map(one_line, [f"{ours} against {theirs}, {counted(self.parity['samples'], 'sample')}", *lines])
        )


# ------------------------------------------------------------------ inspect


@dataclass(frozen=True, slots=True)
class Inspected:
    """``mlconv.inspect/1``: a description with the file that it is of."""

    ref: str
    description: dict[str, Any]
    seconds: float
    warnings: tuple[str, ...] = field(default=())

    ok = True

    def __repr__(self) -> str:
        ends = [", ".join(f"{s['name']} {show_shape(None if s['shape'] is None else tuple(s['shape']))}:{s['dtype']}"
                          for s in self.description[kind]) for kind in ("inputs", "outputs")]  # fmt: skip
        return one_line(f"<Inspected {self.ref} ({self.description['format']}): {' -> '.join(ends)}>")

    def _repr_html_(self) -> str:
        from mlconv import notebook

        return notebook.inspected(self)

    def to_json(self) -> dict[str, Any]:
        told = dict(self.description)
        notes = told.pop("notes")
        return {
            "schema": "mlconv.inspect/1", "ok": True, "ref": self.ref, **told,
            "inputs": [spec_json(spec) for spec in told["inputs"]], "outputs": [spec_json(spec) for spec in told["outputs"]],
            "warnings": [*notes, *self.warnings], "seconds": round(self.seconds, 3),
        }  # fmt: skip

    def text(self) -> str:
        told = self.description
        facts = [told["format"], show_bytes(told["bytes"])]
        facts += [f"opset {told['opset']}"] if told["opset"] else []
        facts += [counted(told["parameters"], "parameter")] if told["parameters"] is not None else []
        facts += [f"{told['macs']:,} MACs"] if told["macs"] is not None else []
        lines = [f"{self.ref}  {', '.join(facts)}"]
        for kind in ("inputs", "outputs"):
            for spec in told[kind]:
                shape = None if spec["shape"] is None else tuple(spec["shape"])
                lines.append(f"  {kind[:-1].ljust(6)} {spec['name']}  {show_shape(shape)}:{spec['dtype']}")
        if told["quantization"]:
            counts = ", ".join(
                f"{count} {dtype}" for dtype, count in told["quantization"].get("dtypes", {}).items()
            )
            lines.append(
                f"  quantized: {told['quantization'].get('kind', 'yes')}" + (f" ({counts})" if counts else "")
            )
        if told["signatures"]:
            lines.append(f"  signatures: {', '.join(told['signatures'])}")
        if told["operators"]:
            shown = sorted(told["operators"].items(), key=lambda item: (-item[1], item[0]))
            lines.append(f"  operators: {', '.join(f'{name} {count}' for name, count in shown)}")
        lines += [f"  {key}: {value}" for key, value in told["metadata"].items()]
        if told["provenance"]:
            origin = told["provenance"].get("source", {})
            lines.append(f"  made by mlconv {told['provenance'].get('mlconv', '?')} from {origin.get('name', '?')} "
                         f"(sha256 {str(origin.get('sha256'))[:12]}...)")  # fmt: skip
        return "\n".join(map(one_line, [*lines, *(f"  note: {note}" for note in told["notes"])]))


# ------------------------------------------------------------------ shared


def spec_json(spec: dict[str, Any]) -> dict[str, Any]:
    """A signature's entry: name, shape, dtype, and what else is known of it."""
    told = {key: spec[key] for key in ("name", "shape", "dtype")}
    return told | {key: spec[key] for key in ("quantization", "values") if spec.get(key) is not None}


def _short(value: Conversion | Checked | Compared, told: str, failure: VerdictError | None) -> str:
    """One line for a prompt and for what a failed assertion shows."""
    why = f"; [{failure.id}] {failure.what}" if failure is not None else ""
    return one_line(f"<{type(value).__name__} {'ok' if value.ok else 'FAILED'}: {told}{why}>")


def _with_specs(value: Source | Artifact) -> dict[str, Any]:
    told: dict[str, Any] = to_json(value)
    return told | {key: [spec_json(spec) for spec in told[key]] for key in ("inputs", "outputs")}


def _failure(error: VerdictError | None) -> dict[str, Any] | None:
    """A verdict within a document: the error's own words without the envelope."""
    if error is None:
        return None
    return {"id": error.id, "code": error.code, "what": error.what, "why": error.why, "hint": error.fix}
