"""A hint of the command line in the words of the library: ``--opset 20`` is ``opset=20`` there."""

from __future__ import annotations

import re

_SWITCHES = frozenset({"force", "trust_pickle", "trust_model", "write_anyway", "type_reduction"})
_OFF = frozenset({"optimize", "parity"})
_NUMBERS = frozenset({"opset", "samples", "seed", "atol", "rtol"})
_TEXTS = frozenset({
    "signature", "tag", "module", "weights", "weights_prefix", "custom_objects", "runtime", "target_platform", "data",
    "preprocess", "via", "precision",
})  # fmt: skip
_COMMANDS = re.compile(r"\b(mlconv|pip|mkdir) ")
_FLAG = re.compile(r"(?<![\w-])(?:--(?P<name>[a-z][a-z-]*)|-o\b)(?:[ =](?P<value>'[^']*'|[^\s;]*[^\s;,.]))?")
_SEVERAL = re.compile(r"--input (?:'[^']*'|\S*\d\S*)(?: --input (?:'[^']*'|\S+))+")
_VALUE = re.compile(r"--input ('[^']*'|\S+)")
_PROSE = frozenset(
    {
        "with",
        "of",
        "to",
        "and",
        "or",
        "in",
        "may",
        "where",
        "is",
        "takes",
        "gives",
        "out",
        "if",
        "keeps",
        "for",
        "a",
        "an",
    }
)


def in_python(hint: str) -> str:
    """The hint with its options as keyword arguments; one that names a command stays as it is."""
    if _COMMANDS.search(hint):
        return hint
    return _FLAG.sub(_keyword, _SEVERAL.sub(_inputs, hint))


def _inputs(run: re.Match[str]) -> str:
    return f"inputs={[value.strip(chr(39)) for value in _VALUE.findall(run[0])]!r}"


def _keyword(match: re.Match[str]) -> str:
    flag, value = match["name"], match["value"] and match["value"].strip("'")  # a shell's quotes
    name = "output" if flag is None else flag.replace("-", "_")
    rest = f" {value}" if value else ""
    if name.removeprefix("no_") in _OFF:
        return f"{name.removeprefix('no_')}={not name.startswith('no_')}{rest}"
    if name in _SWITCHES:
        return f"{name}=True{rest}"
    if value is None or value in _PROSE:
        return {"input": "inputs"}.get(name, name) + rest if name in _KNOWN else match[0]
    if name == "input":
        return f"inputs=[{value!r}]"
    if name == "outputs":
        return f"outputs={value.split(',')!r}"
    if name == "timeout":
        return f"limits=mlconv.Limits({value})"
    if name == "memory":
        return f"limits=mlconv.Limits(bytes={value} * 2**30)"
    if name in _NUMBERS:
        return f"{name}={value}"
    if name in _TEXTS or name == "output":
        return f"{name}={value!r}"
    return match[0]


_KNOWN = _SWITCHES | _OFF | _NUMBERS | _TEXTS | {"input", "outputs", "output"}
