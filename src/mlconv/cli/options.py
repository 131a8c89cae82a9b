"""Options that several commands share, each defined once, and their way from text to value."""

from __future__ import annotations

from typing import Annotated, Any, get_args

import typer

from mlconv.convert.job import Precision
from mlconv.errors import BadInputOption, BadUsage
from mlconv.tensors import InputOption, parse_input
from mlconv.worker import Limits


def _option(*names: str, help: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, **more)


EVIDENCE, LIMITS = "evidence", "limits"

Source = Annotated[str, typer.Argument(metavar="SOURCE", help="A model file or folder, or FILE.py:CALLABLE.")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="A model file or folder, or FILE.py:CALLABLE.")]
Output = Annotated[
    str | None,
    _option(
        "-o",
        "--output",
        metavar="PATH",
        help="Where to write; default: the source's stem in the current folder.",
    ),
]
Force = Annotated[bool, _option("--force", help="Replace an existing output.")]
Input = Annotated[list[str] | None, _option("--input", metavar="[NAME=]DIM,...[:DTYPE[LO..HI]]",
    help="Shape of an input. DIM is a size, the name of a dynamic axis, or NAME=LO..HI/STEP@DEFAULT; `scalar` for none. Repeatable.")]  # fmt: skip
Outputs = Annotated[
    str | None, _option("--outputs", metavar="A,B", help="Outputs to keep, of a source that has more.")
]
Signature = Annotated[
    str | None, _option("--signature", metavar="NAME", help="Entry point of a SavedModel or TFLite file.")
]
Module = Annotated[
    str | None,
    _option("--module", metavar="FILE.py:CALLABLE", help="The network that a state dict belongs to."),
]
Weights = Annotated[
    str | None, _option("--weights", metavar="FILE", help="A state dict for a FILE.py:CALLABLE source.")
]
TrustPickle = Annotated[
    bool, _option("--trust-pickle", help="Load pickles of this file. They can run any code.")
]
TrustModel = Annotated[
    bool,
    _option(
        "--trust-model", help="Run Keras Lambdas, and a SavedModel's file, network and Python operators."
    ),
]
PrecisionOption = Annotated[
    str, _option("--precision", metavar="fp32|fp16", help="What the artifact computes in.")
]
Quantize = Annotated[
    str, _option("--quantize", metavar="SCHEME", help="Not yet available for ONNX; refused with the reason.")
]
Dequantize = Annotated[
    bool, _option("--dequantize", help="Not yet available for ONNX; refused with the reason.")
]
Layout = Annotated[
    list[str] | None,
    _option(
        "--layout", metavar="NAME=NHWC|NCHW", help="Not yet available for ONNX; refused with the reason."
    ),
]
Optimize = Annotated[
    bool, _option("--optimize/--no-optimize", help="Simplify the graph; kept only where it still agrees.")
]
Opset = Annotated[
    int | None,
    _option("--opset", metavar="N", help="Opset of the artifact; default 18, an ONNX source keeps its own."),
]
Metadata = Annotated[
    list[str] | None,
    _option("--metadata", metavar="KEY=VALUE", help="Embed in the artifact and the record. Repeatable."),
]
Data = Annotated[
    str | None,
    _option(
        "--data", metavar="DATA", help="Inputs for parity: FILE.npz, a folder of them, or FILE.py:CALLABLE."
    ),
]
Samples = Annotated[int, _option("--samples", metavar="N", min=1, help="How many samples to compare.")]
Seed = Annotated[int, _option("--seed", metavar="N", min=0, help="Seed of random samples.")]
Atol = Annotated[
    float | None,
    _option(
        "--atol",
        metavar="X",
        min=0,
        help="Absolute tolerance, instead of the default that scales with the output.",
    ),
]
Rtol = Annotated[float | None, _option("--rtol", metavar="X", min=0, help="Relative tolerance.")]
Parity = Annotated[bool, _option("--no-parity", help="Do not compare with the source.")]
WriteAnyway = Annotated[
    bool,
    _option(
        "--write-anyway", help="Write the artifact although evidence fails; the exit code still says so."
    ),
]
Via = Annotated[str | None, _option("--via", metavar="NAME", help="A converter of `mlconv formats`.")]
Timeout = Annotated[
    float, _option("--timeout", metavar="SECONDS", min=0.1, help="Time limit of each worker.")
]
Memory = Annotated[
    float | None,
    _option(
        "--memory",
        metavar="GIB",
        min=0.01,
        help="Memory limit of each worker; default: 80 % of the machine's.",
    ),
]


def inputs(texts: list[str] | None) -> tuple[InputOption, ...]:
    """The values of `--input`.

    Raises:
        BadInputOption: One is not of the option's grammar, or two name the same input.
    """
    found: list[InputOption] = []
    for text in texts or ():
        try:
            option = parse_input(text)
        except ValueError as error:
            raise BadInputOption(
                f"--input {text}: {error}", fix="--input NAME=1,3,224,224 or NAME=batch,3,224,224:float32"
            ) from error
        if option.name is not None and option.name in {other.name for other in found}:
            raise BadInputOption(f"--input names `{option.name}` twice", why="enumerated shapes exist in Core ML alone",
                                 fix=f"one --input {option.name}=...; a named axis takes any size")  # fmt: skip
        found.append(option)
    return tuple(found)


def pairs(texts: list[str] | None, flag: str) -> tuple[tuple[str, str], ...]:
    """``KEY=VALUE`` each.

    Raises:
        BadUsage: One has no `=` or no key.
    """
    found = []
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise BadUsage(f"{flag} {text}: not of the form KEY=VALUE", fix=f"{flag} team=vision")
        found.append((key.strip(), value))
    return tuple(found)


def names(text: str | None) -> tuple[str, ...]:
    """``A,B`` as names.

    Raises:
        BadUsage: One stands there twice.
    """
    found = tuple(part.strip() for part in (text or "").split(",") if part.strip())
    for name in found:
        if found.count(name) > 1:
            raise BadUsage(
                f"--outputs names `{name}` twice", fix=f"--outputs {','.join(dict.fromkeys(found))}"
            )
    return found


def precision(text: str) -> Precision:
    """The precision of that name.

    Raises:
        BadUsage: There is none.
    """
    for known in get_args(Precision):
        if text == known:
            return known  # type: ignore[no-any-return]
    raise BadUsage(
        f"--precision {text}: there are {' and '.join(get_args(Precision))}", fix="--precision fp16"
    )


def limits(timeout: float, memory: float | None) -> Limits:
    """``--timeout`` and ``--memory`` as a worker takes them."""
    return Limits(timeout, None if memory is None else int(memory * 2**30))
