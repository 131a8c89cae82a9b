"""Options that several commands share, each defined once, and their way from text to value."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Annotated, Any, get_args, get_type_hints

import typer

from mlconv.convert.job import Options, Precision
from mlconv.errors import BadUsage
from mlconv.formats.refs import for_shell
from mlconv.input_grammar import parse_inputs
from mlconv.tensors import InputOption
from mlconv.worker import Limits


def _option(*names: str, help: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, **more)


Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="A model file or folder, or a REF: MODULE_OR_FILE.py:NAME[(literal arguments)].",
    ),
]
Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A model file or folder, or a REF: MODULE_OR_FILE.py:NAME[(literal arguments)]."
    ),
]
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
Tag = Annotated[str | None, _option("--tag", metavar="NAME", help="Graph of a SavedModel that has several.")]
Module = Annotated[
    str | None, _option("--module", metavar="REF", help="The network that a state dict belongs to.")
]
Weights = Annotated[
    str | None, _option("--weights", metavar="FILE", help="A state dict for a source that is a REF.")
]
WeightsPrefix = Annotated[
    str | None,
    _option("--weights-prefix", metavar="P", help="Take the tensors whose names begin with P, without it."),
]
CustomObjects = Annotated[
    str | None,
    _option(
        "--custom-objects",
        metavar="FILE.py|MODULE",
        help="Keras layers of your own. Naming it is the consent to run it.",
    ),
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
    str, _option("--quantize", metavar="SCHEME", help="Not yet available; refused with the reason.")
]
Dequantize = Annotated[bool, _option("--dequantize", help="Not yet available; refused with the reason.")]
Layout = Annotated[
    list[str] | None,
    _option("--layout", metavar="NAME=NHWC|NCHW", help="Not yet available; refused with the reason."),
]
Optimize = Annotated[
    bool, _option("--optimize/--no-optimize", help="Simplify the graph; kept only where it still agrees.")
]
Opset = Annotated[
    int | None,
    _option("--opset", metavar="N", help="Opset of the artifact; default 18, an ONNX source keeps its own."),
]
Runtime = Annotated[
    str | None,
    _option(
        "--runtime",
        metavar="NAME==VERSION",
        help="Where the artifact shall run, such as onnxruntime==1.17: opset and IR version that it loads.",
    ),
]
TargetIsa = Annotated[
    str | None,
    _option(
        "--target-isa",
        metavar="vnni|avx2|arm|portable",
        help="Processor that 8-bit weights are written for; default: this machine's. portable is right on all.",
    ),
]
TargetPlatform = Annotated[
    str | None,
    _option(
        "--target-platform", metavar="amd64|arm", help="Where it shall run; default: a machine like this."
    ),
]
TypeReduction = Annotated[
    bool, _option("--type-reduction", help="List the types of each operator too, for a smaller runtime.")
]
Metadata = Annotated[
    list[str] | None,
    _option("--metadata", metavar="KEY=VALUE", help="Embed in the artifact and the record. Repeatable."),
]
Data = Annotated[
    str | None,
    _option(
        "--data",
        metavar="DATA",
        help="Inputs: FILE.npz, a folder of such, a folder of pictures with --preprocess, or FILE.py:CALLABLE.",
    ),
]
Preprocess = Annotated[
    str | None,
    _option(
        "--preprocess",
        metavar="PREPROCESS",
        help="How pictures become inputs: imagenet, 0..1, -1..1, yolo, stages such as resize=256,crop=224,scale=1/255, "
        "or FILE.py:CALLABLE.",
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


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What opens a source and feeds it: the options of every command that runs one."""

    input: Input = None
    signature: Signature = None
    tag: Tag = None
    module: Module = None
    weights: Weights = None
    weights_prefix: WeightsPrefix = None
    custom_objects: CustomObjects = None
    trust_pickle: TrustPickle = False
    trust_model: TrustModel = False
    data: Data = None
    preprocess: Preprocess = None
    seed: Seed = 0
    timeout: Timeout = 1800.0
    memory: Memory = None

    def options(self) -> Options:
        return Options(
            input=inputs(self.input), signature=self.signature, tag=self.tag, module=self.module, weights=self.weights,
            weights_prefix=self.weights_prefix, custom_objects=self.custom_objects, trust_pickle=self.trust_pickle,
            trust_model=self.trust_model, data=self.data, preprocess=self.preprocess, seed=self.seed,
        )  # fmt: skip

    def limits(self) -> Limits:
        return limits(self.timeout, self.memory)


@dataclass(frozen=True, slots=True)
class ConversionOptions:
    """What every converting command takes beyond that."""

    output: Output = None
    force: Force = False
    outputs: Outputs = None
    precision: PrecisionOption = "fp32"
    optimize: Optimize = True
    quantize: Quantize = "none"
    dequantize: Dequantize = False
    layout: Layout = None
    metadata: Metadata = None
    samples: Samples = 8
    atol: Atol = None
    rtol: Rtol = None
    no_parity: Parity = False
    write_anyway: WriteAnyway = False
    via: Via = None

    def over(self, options: Options) -> Options:
        """The options of a source with these laid over them."""
        return replace(
            options, outputs=names(self.outputs), precision=precision(self.precision), optimize=self.optimize,
            quantize=self.quantize, dequantize=self.dequantize, layout=tuple(self.layout or ()),
            metadata=pairs(self.metadata, "--metadata"), samples=self.samples, atol=self.atol, rtol=self.rtol,
            parity=not self.no_parity,
        )  # fmt: skip


def grouped(command: Callable[..., int]) -> Callable[..., int]:
    """A command as typer shall see it: each parameter that is a group of options becomes one parameter a field."""
    hints = get_type_hints(command, include_extras=True)
    groups = {name: kind for name, kind in hints.items() if is_dataclass(kind) and name != "return"}
    shown: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name not in groups:
            shown.append(parameter.replace(annotation=hints[name]))
            continue
        kinds = get_type_hints(groups[name], include_extras=True)
        shown += [
            inspect.Parameter(
                f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=kinds[f.name]
            )
            for f in fields(groups[name])
        ]

    @functools.wraps(command)
    def expanded(**given: Any) -> int:
        whole = {
            name: kind(**{f.name: given.pop(f.name) for f in fields(kind)})  # type: ignore[operator]
            for name, kind in groups.items()
        }
        return command(**given, **whole)

    keyword_only = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in shown]
    expanded.__signature__ = inspect.Signature(keyword_only)  # type: ignore[attr-defined]
    expanded.__annotations__ = {p.name: p.annotation for p in keyword_only}
    return expanded


def inputs(texts: list[str] | None) -> tuple[InputOption, ...]:
    """The values of `--input`.

    Raises:
        BadInputOption: One is not of the option's grammar, or two contradict each other.
    """
    return parse_inputs(texts or ())


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
                f"--outputs names `{name}` twice",
                fix=f"--outputs {for_shell(','.join(dict.fromkeys(found)))}",
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
