"""The tables under ``data``: which opsets, IR versions and operators a release of a runtime loads.

    {"runtime", "title", "basis": "measured|documented", "source", "grows", "note",
     "releases": {"1.17": {"exact": "1.17.3", "opset": 20, "ir": 9, "ort_formats": [5, 6]}},
     "types": ["float double", ...],
     "operators": {DOMAIN: {NAME: [[RELEASES, VERSIONS, {FORMAL: number in "types"}], ...]}}}

RELEASES is `1.16-1.31` or `1.8,1.10-1.15`, VERSIONS of the operator `6-12`, `13` or `7+`. A row without types holds for all
types. ``"refuses"`` lists
``[RELEASES, DOMAIN, NAME, type, from opset]``: what a release has and does not load all the same. ``"operators_of"`` names another table whose operators of the
same release are meant. `benchmarks/runtime_tables.py` and `runtime_lists.py` write these files and tell how.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlconv.errors import UnknownRuntime, nearest

_DATA = Path(__file__).with_name("data")
_ALIASES = {
    "ort": "onnxruntime",
    "onnxruntime-gpu": "onnxruntime",
    "onnxruntime-web": "ort-web",
    "trt": "tensorrt",
}
"""onnxruntime-gpu holds the CPU provider too, and gives it what its own lacks."""

_ENDLESS = 1 << 31
_NAMED = re.compile(
    r"(?P<name>[A-Za-z][\w-]*?)\s*(?P<sign>===?|[<>~!]=|[=<>@:-]|\s)\s*(?P<version>v?\d+(?:\.\d+)*)"
)
"""A name and a version as pip, npm, conda and people write them; ``NAME==VERSION`` alone is taken."""

Basis = Literal["measured", "documented"]
Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Kernel:
    """One row: versions ``first`` to ``last`` of an operator, and the types that each of its formals takes.

    ``types`` is empty where the table does not tell them, or where the operator is replaced by others whatever its types.
    """

    first: int
    last: int
    types: Mapping[str, frozenset[str]]

    def serves(self, version: int) -> bool:
        return self.first <= version <= self.last


@dataclass(frozen=True, slots=True)
class Refusal:
    """A type for which a release does not load an operator in models of ``from_opset`` or newer, whatever its kernels say."""

    kind: str
    from_opset: int


@dataclass(frozen=True, slots=True)
class Runtime:
    """One release of a runtime.

    Attributes:
        name: As the tables call it: ``onnxruntime``.
        asked: The version that the user gave.
        release: The row of the table that stands for it: ``1.17``.
        exact: What was measured, or whose list was read.
        opset: The newest of the default domain that it loads; None where its list does not tell.
        ir_version: The newest that it loads; None where its list does not tell.
        ort_formats: Versions of the ORT format that it loads; empty where it loads none or nothing is known.
        basis: Whether the operators were measured on the runtime itself or taken from its documentation.
        source: Where the figures come from.
        note: What the table cannot tell; empty where nothing is left out.
        warning: Why another release stands for the version that was asked for; None where it is the one.
    """

    name: str
    asked: str
    release: str
    exact: str
    opset: int | None
    ir_version: int | None
    ort_formats: tuple[int, ...]
    basis: Basis
    source: str
    note: str = ""
    warning: str | None = None

    @property
    def label(self) -> str:
        """What messages call it: ``onnxruntime 1.17``."""
        return f"{self.name} {self.release}"

    @property
    def asked_as(self) -> str:
        """What ``--runtime`` takes for it."""
        return f"{self.name}=={self.release}"

    def kernels(self, domain: str, name: str) -> tuple[Kernel, ...]:
        """What it has of an operator; ``""`` is the default domain."""
        return _kernels(self.name, self.release, domain, name)

    def refusals(self, domain: str | None = None, name: str | None = None) -> tuple[Refusal, ...]:
        """Its known defects, of one operator or of all."""
        table = _table(_table(self.name).get("operators_of", self.name))
        order = _releases(table["runtime"])
        return tuple(
            Refusal(row[3], row[4]) for row in table.get("refuses", ())
            if _covers(row[0], self.release, order) and domain in (None, row[1]) and name in (None, row[2])
        )  # fmt: skip


def names() -> tuple[str, ...]:
    """Runtimes that have a table."""
    return tuple(sorted(path.stem for path in _DATA.glob("*.json")))


def known(name: str) -> str:
    """The releases of a runtime's table in words: ``1.8 to 1.31``, ``8.0, 8.2, 8.4 to 8.6``."""
    told: list[str] = []
    for run in _runs(_releases(name)):
        told += [f"{run[0]} to {run[-1]}"] if len(run) > 2 else run
    return ", ".join(told)


def _runs(releases: Sequence[str]) -> list[list[str]]:
    """Releases of which each is the next minor one of the one before."""
    runs: list[list[str]] = []
    for release in releases:
        *major, minor = _version(release)
        if runs and _version(runs[-1][-1]) == (*major, minor - 1):
            runs[-1].append(release)
        else:
            runs.append([release])
    return runs


def find(text: str) -> Runtime:
    """The runtime that ``NAME==VERSION`` names.

    A patch release counts as its minor release. Where a version stands between or after those of the table, the newest
    one that is not newer stands for it, with a warning: later releases load what earlier ones did. Another major version
    than any of the table promises nothing, and a major version alone is any of its releases.

    Raises:
        UnknownRuntime: The text has not that form, or the table lacks the name or the version.
    """
    written, equals, asked = (part.strip() for part in text.partition("=="))
    otherwise = _NAMED.fullmatch(text.strip())
    if otherwise and otherwise["sign"] == "==":
        otherwise = None
    if otherwise:
        written, asked = otherwise["name"], otherwise["version"]
    name = _ALIASES.get(written.lower(), written.lower())
    if name not in names():
        raise _unknown(written, name, asked)
    if otherwise:
        raise UnknownRuntime(
            f"--runtime {text}: it takes NAME==VERSION, one release",
            why=f"the table of {name} holds {known(name)}",
            fix=f"--runtime {name}=={_fitting(name, asked)}",
        )
    if not equals or not re.fullmatch(r"v?\d+(\.\d+)*", asked):
        told = f"`{asked}` is no version" if asked else "no version is given"
        raise UnknownRuntime(
            f"--runtime {text}: {told}",
            why=f"the table of {name} holds {known(name)}",
            fix=f"--runtime {name}=={_newest(name)}",
        )
    release = _standing_for(name, asked.removeprefix("v"))
    return _runtime(name, asked, release)


def _unknown(written: str, name: str, asked: str) -> UnknownRuntime:
    close = nearest(name, [*names(), *_ALIASES]) if name else ["onnxruntime"]
    suggested = _ALIASES.get(close[0], close[0]) if close else None
    return UnknownRuntime(
        f"mlconv has no table of a runtime `{written}`",
        why=f"it has tables of {', '.join(f'{each} ({known(each)})' for each in names())}",
        fix=f"--runtime {suggested}=={_fitting(suggested, asked)}"
        if suggested
        else f"leave --runtime out: nothing here tells what {written} loads, and --opset holds the model to an opset that it does",
    )


def kernels_of(name: str) -> str:
    """The table whose operators a runtime's releases have: its own, or that of the runtime that it is built of."""
    return str(_table(name).get("operators_of", name))


def covers(releases: str, release: str, name: str) -> bool:
    """Whether ``1.8-1.28`` or ``1.16,1.20`` holds a release; those are of the table ``name``."""
    return _covers(releases, release, _releases(name))


def span(text: str) -> tuple[int, int]:
    """First and last of ``7-11``, ``13`` or ``19+``."""
    return _span(text)


def later(runtime: Runtime) -> tuple[str, ...]:
    """The releases of its table after a runtime's own, oldest first."""
    releases = _releases(runtime.name)
    return tuple(releases[releases.index(runtime.release) + 1 :])


def newest(name: str) -> Runtime:
    """The newest release of a runtime's table."""
    return _runtime(name, _newest(name), _newest(name))


def _runtime(name: str, asked: str, release: str) -> Runtime:
    table = _table(name)
    row = table["releases"][release]
    warning = None
    if _version(asked.removeprefix("v"))[: len(_version(release))] != _version(release):
        warning = (
            f"mlconv has no table of {name} {asked}; {release}, the newest that is not newer, stands for it: "
            f"{'later releases load what earlier ones do' if table['grows'] else 'see whether it holds there too'}"
        )
    return Runtime(
        name, asked, release, row["exact"], row["opset"], row["ir"], tuple(row.get("ort_formats", ())), row.get("basis", table["basis"]),
        row.get("source", table["source"]), row.get("note", table.get("note", "")), warning,
    )  # fmt: skip


def _standing_for(name: str, asked: str) -> str:
    releases = _releases(name)
    version = _version(asked)
    older = [release for release in releases if _version(release) <= version]
    if version in map(_version, releases):
        return next(release for release in releases if _version(release) == version)
    majors = {_version(release)[0] for release in releases}
    if not older or version[0] not in majors or len(version) < len(_version(older[-1])):
        raise UnknownRuntime(
            f"mlconv has no table of {name} {asked}",
            why=f"its table holds {known(name)}",
            fix=f"--runtime {name}=={_fitting(name, asked)}",
        )
    return older[-1]


def _fitting(name: str, asked: str) -> str:
    """A release of the table to suggest in place of another one: itself, else the nearest; of a major version the newest."""
    releases = _releases(name)
    asked = asked.removeprefix("v")
    if not re.fullmatch(r"\d+(\.\d+)*", asked):
        return releases[-1]
    version = _version(asked)
    of_major = [release for release in releases if _version(release)[:1] == version]
    if of_major:
        return of_major[-1]
    if _version(releases[0]) > version:
        return releases[0]
    return next((release for release in reversed(releases) if _version(release) <= version), releases[-1])


def _newest(name: str) -> str:
    return _releases(name)[-1]


def _version(text: str) -> Version:
    return tuple(int(part) for part in text.split("."))


def _releases(name: str) -> list[str]:
    return list(_table(name)["releases"])


@functools.cache
def _table(name: str) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((_DATA / f"{name}.json").read_text(encoding="utf-8"))
    return table


@functools.cache
def _kernels(name: str, release: str, domain: str, operator: str) -> tuple[Kernel, ...]:
    table = _table(_table(name).get("operators_of", name))
    rows = table["operators"].get(domain, {}).get(operator, ())
    order = _releases(table["runtime"])
    return tuple(_kernel(row, table["types"]) for row in rows if _covers(row[0], release, order))


def _kernel(row: Sequence[Any], types: Sequence[str]) -> Kernel:
    first, last = _span(row[1])
    formals = row[2] if len(row) > 2 else {}
    return Kernel(first, last, {formal: frozenset(types[at].split()) for formal, at in formals.items()})


def _span(text: str) -> tuple[int, int]:
    if text.endswith("+"):
        return int(text[:-1]), _ENDLESS
    first, _, last = text.partition("-")
    return int(first), int(last or first)


def _covers(releases: str, release: str, order: Sequence[str]) -> bool:
    place = order.index(release)
    for part in releases.split(","):
        first, _, last = part.partition("-")
        if order.index(first) <= place <= order.index(last or first):
            return True
    return False
