"""The JSON Schema (2020-12) of every document that mlconv prints, as `mlconv schema NAME` publishes it.

Keys may be added within a document's version; a reader ignores what it does not know. So no schema here
forbids further keys, and what is required is what a reader may rely on.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

from mlconv.errors import UnknownSchema, listed, nearest
from mlconv.formats import FORMATS
from mlconv.tensors import DTYPES

Schema: TypeAlias = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
CONVERTING = ("onnx", "coreml", "tflite", "ort", "quantize")
"""Commands that print ``mlconv.convert/1``."""


def schema(name: str) -> Schema:
    """The schema of a document, by the document's name, its ``schema`` value or the command that prints it.

    Raises:
        UnknownSchema: There is no such document.
    """
    wanted = name.strip().removeprefix("mlconv.").removesuffix("/1")
    found = _DOCUMENTS.get("convert" if wanted in CONVERTING else wanted)
    if found is None:
        close = nearest(wanted, (*NAMES, *CONVERTING), 1) or ["convert"]
        raise UnknownSchema(
            f"there is no schema `{name}`",
            why=f"there are {listed(NAMES, len(NAMES))}",
            fix=f"mlconv schema {close[0]}",
        )
    return copy.deepcopy(found)


# ------------------------------------------------------------------ the words of a schema


def _of(kind: str) -> Callable[..., Schema]:
    def build(description: str, **more: Any) -> Schema:
        return {"type": kind, "description": description, **more}

    return build


_text, _boolean = _of("string"), _of("boolean")
_number, _integer = _of("number"), _of("integer")


def _count(description: str) -> Schema:
    return _integer(description, minimum=0)


def _or_null(schema: Schema) -> Schema:
    """The same or null."""
    return {**schema, "type": [schema["type"], "null"]}


def _list(description: str, items: Schema, **more: Any) -> Schema:
    return {"type": "array", "description": description, "items": items, **more}


def _texts(description: str) -> Schema:
    return {"type": "array", "description": description, "items": {"type": "string"}}


def _object(
    description: str,
    properties: Mapping[str, Schema],
    optional: Collection[str] = (),
    title: str | None = None,
) -> Schema:
    """Args: title: Of a part that several documents share, by which the docs refer to it."""
    return {
        **({"title": title} if title else {}), "type": "object", "description": description,
        "properties": dict(properties), "required": [key for key in properties if key not in optional],
    }  # fmt: skip


def _map(description: str, values: Schema) -> Schema:
    """An object whose keys are names that no schema knows."""
    return {"type": "object", "description": description, "additionalProperties": values}


def _document(
    name: str, what: str, ok: str, properties: Mapping[str, Schema], optional: Collection[str] = ()
) -> Schema:
    own = {
        "schema": {"const": f"mlconv.{name}/1", "description": "which document this is, and its version"},
        "ok": _boolean(ok),
        **properties,
        "warnings": _texts("what the user should know, one sentence each"),
        "seconds": _number("wall time of the command", minimum=0),
    }
    return {"$schema": DIALECT, "$id": f"mlconv.{name}/1", **_object(what, own, optional)}


# ------------------------------------------------------------------ parts that several documents share

_SHA256 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_ERROR_ID = {"type": "string", "pattern": "^MLC[0-9]{3}$"}
_FORMAT = {"type": "string", "description": "an id of `mlconv formats`", "examples": list(FORMATS)}
_PAIR = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}

_TENSOR = _object(
    "one input or output",
    {
        "name": _text("as `--input` and `--outputs` take it"),
        "shape": {
            "type": ["array", "null"],
            "description": "a size, or the name of a dynamic axis, or null for one without a name; null where the rank is unknown",
            "items": {"type": ["integer", "string", "null"]},
        },
        "dtype": _text("numpy's name", examples=list(DTYPES)),
        "quantization": _object(
            "the affine map of integers that stand for real numbers: real = scale * (integer - zero_point)",
            {
                "scale": _number("real value of one step"),
                "zero_point": _integer("the integer that stands for 0"),
            },
        ),
        "values": {
            **_PAIR,
            "description": "least and greatest value that makes sense, where something tells them",
        },
    },
    optional=("quantization", "values"),
    title="tensor",
)


def _signature(which: str) -> Schema:
    return _list(f"{which}, in order", _TENSOR)


_FAILURE: Schema = {
    **_object(
        "the first piece of evidence that says no; null where all of it holds",
        {
            "id": {**_ERROR_ID, "description": "see `mlconv explain`"},
            "code": _text("the id in words"),
            "what": _text("what is wrong, with the figures"),
            "why": _or_null(_text("where it comes from, where that is known")),
            "hint": _text("what to type next"),
        },
        title="failure",
    ),
    "type": ["object", "null"],
}

_OUTPUT_PARITY = _object(
    "one output over all samples; a figure is null where it has no meaning or is infinite",
    {
        "name": _text("the reference's name of the output"),
        "ok": _boolean(
            "whether every element is within tolerance: |candidate - reference| <= atol + rtol * |reference|"
        ),
        "informative": _boolean("whether the reference moved far enough for a fault to show"),
        "max_abs": _or_null(_number("greatest absolute difference")),
        "max_rel": _or_null(_number("greatest relative difference, over elements that exceed atol")),
        "mean_abs": _or_null(_number("mean absolute difference")),
        "cosine": _or_null(_number("cosine of both outputs, each as one vector")),
        "sqnr_db": _or_null(
            _number("signal to noise in decibels: 10 log10(sum of squares / sum of squared differences)")
        ),
        "max_lsb": _or_null(_number("max_abs in steps of the last bit, for quantized outputs and integers")),
        "argmax_agreement": _or_null(
            _number("share of rows (last axis) whose greatest element is at the same place")
        ),
        "shown": _or_null(_number("share of elements that moved by more than the tolerance can hide")),
        "atol": _or_null(_number("absolute tolerance as applied to the worst element's sample")),
        "rtol": _or_null(_number("relative tolerance as applied")),
        "allowed": _or_null(_number("what both come to at the worst element")),
        "range": _or_null(_number("greatest minus least value of the reference")),
        "worst_index": _or_null(
            _list("sample, then the index of the element furthest outside tolerance", {"type": "integer"})
        ),
        "worst": {**_PAIR, "type": ["array", "null"], "description": "reference and candidate there"},
        "spread": _or_null(_number("how far the reference runtime's own kernels lie apart on these samples")),
        "noise": _or_null(_number("how far the source moved when the last bit of its inputs did")),
        "step": _or_null(
            _number("real value of one step of the last bit; null where the output is not quantized")
        ),
        "fault": _or_null(
            _text("what is wrong beyond figures: NaN, infinity, shape, dtype, name, a missing output")
        ),
        "fault_kind": {"enum": ["not-finite", "signature", "state", None], "description": "the fault's kind"},
    },
    title="output",
)

_PREPROCESSED: Schema = {
    **_object(
        "what was done to pictures before they were fed; null where the data were none",
        {
            "asked": _text("the value of `--preprocess`"),
            "stages": _texts("every stage with its numbers, in order; joined by commas a PREPROCESS that does the same"),
            "pictures": _count("how many were fed"),
            "classes": _texts("names of the class folders; a label is an index into them; empty where there were none"),
            "range": {**_PAIR, "type": ["array", "null"], "description": "least and greatest number after the stages"},
            "quantization": {
                **_object(
                    "how these numbers became the integers of a quantized input: real = scale * (integer - zero_point)",
                    {"scale": _number("real value of one step"), "zero_point": _integer("the integer that stands for 0")},
                ),
                "type": ["object", "null"],
            },
            "sha256": {**_or_null(_SHA256), "description": "of the file of a callable that did it"},
        },
    ),
    "type": ["object", "null"],
}  # fmt: skip

_EVIDENCE: Mapping[str, Schema] = MappingProxyType({
    "data": _text("`random`, or the value of `--data`"),
    "preprocess": _PREPROCESSED,
    "seed": _integer("seed of random samples"),
    "samples": _count("how many samples were compared"),
    "computes": {"enum": ["fp32", "fp16", "bf16", "fp64"], "description": "what the default tolerance follows"},
    "informative": _boolean("false where no output moved: then nothing was shown"),
    "outputs": _list("one entry per output", _OUTPUT_PARITY),
    "notes": _texts("what a reader must know: samples left out, outputs that tell nothing"),
})  # fmt: skip

# ------------------------------------------------------------------ the documents

_ERROR: Schema = {
    "$schema": DIALECT, "$id": "mlconv.error/1",
    **_object(
        "A command that could not do its work",
        {
            "schema": {"const": "mlconv.error/1", "description": "which document this is, and its version"},
            "ok": {"const": False, "description": "always false"},
            "id": {**_ERROR_ID, "description": "stable; `mlconv explain ID` tells cause and cures"},
            "code": _text("the id in words, as stable as the id"),
            "exit": {"enum": [1, 2, 3, 4, 5, 6, 7, 130], "description": "the exit code of the command"},
            "what": _text("what failed, with the value in it"),
            "why": _or_null(_text("the cause, where it is known")),
            "hint": _text("what to type next"),
            "log": _or_null(_text("path of the worker's log, where there is one")),
            "retry": _boolean("whether the same call may succeed another time"),
        },
    ),
}  # fmt: skip

_SOURCE = _object(
    "the model as it was trained",
    {
        "ref": _text("as the user wrote it"),
        "format": _FORMAT,
        "sha256": {
            **_or_null(_SHA256),
            "description": "of the file; of a folder, that of its sorted `path:sha256` lines; null for a module",
        },
        "bytes": _or_null(_count("size of the file, or of all files of the folder")),
        "weights": _or_null(
            _text(
                "where a module's parameters came from: a file, `constructor`, or `live` for a model of the calling process; null where the source holds them"
            )
        ),
        "weights_sha256": {
            **_or_null(_SHA256),
            "description": "of that file; of shards, that of the sorted `name:sha256` lines, the index included; "
            "null where no file was read",
        },
        "inputs": _signature("inputs"),
        "outputs": _signature("outputs"),
    },
)

_ARTIFACT = _object(
    "what was made",
    {
        "path": _text("where it was to go, as the user gave it"),
        "format": _FORMAT,
        "sha256": {**_SHA256, "description": "of the artifact"},
        "bytes": _count("size of the artifact; external data is not counted"),
        "opset": _or_null(_integer("version of the default ONNX domain; null where the format has none")),
        "inputs": _signature("inputs"),
        "outputs": _signature("outputs"),
        "operators": _count("how many operators the graph has"),
        "files": _texts("names of all its files: external data, or a list of operators, lies beside it"),
        "written": _boolean("whether it stands at `path`: not where evidence failed, unless --write-anyway"),
    },
)

_ROUTE = _list(
    "the converters passed, in order",
    _object(
        "one converter",
        {
            "from": _text("format that it read"),
            "to": _text("format that it wrote"),
            "converter": _text("its name in `mlconv formats`, as `--via` takes it"),
            "exporter": _text("the tool that it used in the end"),
            "versions": _map("versions of the packages that it used", {"type": "string"}),
            "seconds": _number("wall time", minimum=0),
            "settings": _map(
                "what it chose by itself and what that means, such as the processor that 8-bit weights were written for",
                {},
            ),
            "attempts": _list(
                "converters that were tried before it",
                _object(
                    "one attempt",
                    {
                        "converter": _text("its name"),
                        "error": {**_ERROR_ID, "description": "the id of its error"},
                        "what": _text("what failed"),
                    },
                ),
            ),
        },
    ),
    minItems=1,
)

_FINDING = _object(
    "one finding",
    {
        "name": _text("what was looked at"),
        "ok": _or_null(_boolean("null where it does not apply or could not be looked at")),
        "detail": _text("what was found"),
    },
    title="finding",
)

_KERNELS = _or_null(
    _text("which of its kernels the reference ran, where its runtime has several sets: `XNNPACK`")
)

_CHECKS = _object(
    "the evidence",
    {
        "structure": _object(
            "whether the graph is valid",
            {"ok": _boolean("whether no finding failed"), "findings": _list("one entry per check", _FINDING)},
            optional=("findings",),
        ),
        "load": {
            **_object(
                "whether the artifact's runtime loads it and runs it; null where that was not tried",
                {
                    "ok": _boolean("whether it does"),
                    "runner": _text("the runner of `mlconv formats`"),
                    "runtime": _text("the runtime and its version, in words"),
                    "detail": _text("what the runtime said; empty where nothing is wrong"),
                },
                optional=("runtime", "detail"),
            ),
            "type": ["object", "null"],
        },
        "parity": {
            **_object(
                "source and artifact on the same inputs, each in its own runtime; null where nothing was compared",
                {
                    "ok": _boolean("whether every output is within its tolerance"),
                    "reference": _text("what ran the source, e.g. `torch-cpu`"),
                    "candidate": _text("what ran the artifact"),
                    "kernels": _KERNELS,
                    **_EVIDENCE,
                    "names": _map("the source's output name to the artifact's, where they differ", {"type": "string"}),
                    "steps": _or_null(
                        _count("how many runs in a row were compared too, each from the state that the last one left; null where the source keeps none")
                    ),
                },
                optional=("names", "kernels", "steps"),
            ),
            "type": ["object", "null"],
        },
        "runtime": _object(
            "the artifact against the table of the runtime of `--runtime`, which itself was not run: parity is that of `load.runtime`; absent where none was asked for",
            {
                "ok": _boolean("whether the runtime loads its versions and has its operators"),
                "asked": _text("as the user gave it"),
                "name": _text("the runtime's table"),
                "release": _text("the release of the table that stands for it"),
                "measured": _text("the exact release that was measured, or whose documentation was read"),
                "opset": _integer("the artifact's"),
                "ir_version": _integer("the artifact's"),
                "newest_opset": _or_null(_integer("the newest that the runtime loads; null where nothing tells")),
                "newest_ir_version": _or_null(_integer("likewise")),
                "basis": _text("`measured` on the runtime, or `documented` by its authors"),
                "source": _text("where the figures come from"),
                "note": _text("what the table cannot tell; empty where nothing is left out"),
                "wrong_kernels": _list(
                    "operators of the artifact that this release has and is known to compute wrong",
                    _object(
                        "one known defect",
                        {
                            "operator": _text("its name"),
                            "nodes": _integer("how many nodes of the artifact meet it"),
                            "where": _text("the attributes that meet it"),
                            "what": _text("what is wrong"),
                            "source": _text("the change that mended it"),
                            "mended": _or_null(_text("the first later release without it; null where none is known")),
                        },
                    ),
                ),
            },
            optional=("wrong_kernels",),
        ),
    },
    optional=("runtime",),
)  # fmt: skip

_CONVERT = _document(
    "convert", "A conversion", "whether the artifact was made and every piece of evidence holds",
    {"source": _SOURCE, "artifact": _ARTIFACT, "route": _ROUTE, "checks": _CHECKS, "failure": _FAILURE},
)  # fmt: skip

_INSPECT = _document(
    "inspect", "What a model file says of itself, read without running it", "always true: a file that cannot be read is an error",
    {
        "ref": _text("as the user wrote it"),
        "format": _FORMAT,
        "inputs": _signature("inputs"),
        "outputs": _signature("outputs"),
        "operators": _map("name to count, every subgraph included; empty where the format has no graph", {"type": "integer"}),
        "parameters": _or_null(_count("elements of all weights; null where unknown")),
        "macs": _or_null(_count("multiply-accumulates of one run, dynamic axes counted as 1; null where unknown")),
        "bytes": _count("size of the file, or of all files of the folder"),
        "quantization": {
            "type": ["object", "null"], "description": "null for a float model",
            "properties": {
                "kind": _text("what is quantized, e.g. `full`"),
                "dtypes": _map("dtype to the number of tensors", {"type": "integer"}),
            },
        },
        "opset": _or_null(_integer("version of the default ONNX domain; null where the format has none")),
        "metadata": _map("the author's keys", {"type": "string"}),
        "provenance": {"type": ["object", "null"], "description": "what mlconv wrote into the file when it made it"},
        "signatures": _texts("names of the entry points, where the format has several"),
    },
)  # fmt: skip

_CHECK_LINE = _object(
    "one check",
    {
        "name": _text("what was looked at"),
        "ok": _or_null(_boolean("null where it does not apply or could not be looked at")),
        "detail": _text("what was found"),
        "hint": _text("what to type next, where that is known"),
    },
    optional=("hint",),
    title="check",
)

_CHECK = _document(
    "check", "Whether a model is sound", "whether no check failed",
    {
        "source": _object("the model", {"ref": _text("as the user wrote it"), "format": _FORMAT}),
        "checks": _list("one entry per check", _CHECK_LINE, minItems=1),
    },
)  # fmt: skip

_SIDE = {"ref": _text("as the user wrote it"), "runner": _text("what ran it")}

_COMPARE = _document(
    "compare", "Two models on the same inputs", "whether every output is within its tolerance",
    {
        "reference": _object("the model that is taken for right", {**_SIDE, "kernels": _KERNELS}, optional=("kernels",)),
        "candidate": _object("the model that is judged", _SIDE),
        **_EVIDENCE,
        "failure": _FAILURE,
    },
)  # fmt: skip

_AVAILABLE = {
    "available": _boolean("whether all that it needs is installed"),
    "missing": _texts("import names of what is not installed; `a|b`: either will do"),
    "install": _text("what to type to install it; empty where nothing is needed"),
}

_FORMATS = _document(
    "formats", "Formats, converters and runners as they are here", "always true",
    {
        "formats": _list("every format that is recognised and read", _object("one format", {
            "id": _text("its id"), "what": _text("what it is"), "converts_to": _texts("formats that it is converted to")
        })),
        "converters": _list("built-in and third-party", _object("one converter", {
            "name": _text("as `--via` takes it"), "from": _text("format that it reads"), "to": _text("format that it writes"),
            **_AVAILABLE, "options": _texts("options beyond those that every conversion takes, dashes as underscores"),
        })),
        "runners": _list("what executes a format", _object("one runner", {
            "name": _text("runtime and device"), "formats": _texts("formats that it loads"), **_AVAILABLE,
        })),
        "plugins": _list("entry points of other distributions that could not be loaded", _object("one plugin", {
            "name": _text("the entry point's name"), "distribution": _text("whose it is"), "error": _text("why not"),
        })),
    },
)  # fmt: skip

_DOCTOR = _document(
    "doctor", "What is installed here and what does not fit", "false where something installed does not fit (exit 5)",
    {
        "python": _text("Python's version"),
        "platform": _text("operating system and processor"),
        "machine": _object("the machine", {"cores": _count("processors"), "memory_bytes": _count("physical memory")}),
        "packages": _list("the distributions that matter", _object("one distribution", {
            "name": _text("its name"), "version": _or_null(_text("null where it is not installed")),
            "needed_for": _text("what needs it"),
        })),
        "problems": _list("what does not fit", _object("one problem", {
            "what": _text("what does not fit"), "fix": _text("what to type"),
        })),
        "interpreters": _map("NAME of each MLCONV_PYTHON_NAME to its path", {"type": "string"}),
        "cache": _text("the folder of logs and caches"),
    },
)  # fmt: skip

_EXPLAIN = _document(
    "explain", "The cause and the cures of an error id", "always true: an unknown id is an error",
    {
        "id": {**_ERROR_ID, "description": "the id"},
        "code": _text("the id in words"),
        "exit": _integer("the exit code that comes with it"),
        "title": _text("the error in one line"),
        "cause": _text("how it comes about"),
        "example": _text("a command and what it printed"),
        "cures": _texts("what to do, each a line"),
    },
)  # fmt: skip

_DEMO = _document(
    "demo", "The main job end to end on models that mlconv ships", "whether something was shown and nothing of it failed",
    {
        "folder": _text("where the artifacts are"),
        "steps": _list("one entry per source", _object("one source, end to end", {
            "name": _text("the source"),
            "ok": _or_null(_boolean("null where it was skipped, since something is not installed")),
            "detail": _text("the evidence in words"),
            "source_accuracy": _or_null(_number("share of the held-out samples that the source names rightly", minimum=0, maximum=1)),
            "artifact_accuracy": _or_null(_number("the same for the artifact", minimum=0, maximum=1)),
            "seconds": _number("wall time", minimum=0),
            "install": _or_null(_text("what to type where it was skipped")),
        })),
    },
)  # fmt: skip

_DOCUMENTS: Mapping[str, Schema] = MappingProxyType({
    "check": _CHECK, "compare": _COMPARE, "convert": _CONVERT, "demo": _DEMO, "doctor": _DOCTOR, "error": _ERROR,
    "explain": _EXPLAIN, "formats": _FORMATS, "inspect": _INSPECT,
})  # fmt: skip
NAMES: tuple[str, ...] = tuple(_DOCUMENTS)
