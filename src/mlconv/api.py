"""The library: the same values that the commands print.

A source is a path, a REF, or a model of this process: an ``nn.Module``, a Keras model, an ``ExportedProgram``, an
``onnx.ModelProto``. What several functions take is listed once, in ``SourceOptions`` and ``ConversionOptions``.
"""

from __future__ import annotations

import functools
import inspect as inspection
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from os import PathLike
from pathlib import Path as _Path
from typing import Any, Literal, ParamSpec, TypeAlias, TypedDict, TypeVar, Unpack, get_args, get_type_hints

from mlconv.checks import models
from mlconv.convert import live as living
from mlconv.convert.job import Options, Precision
from mlconv.convert.pipeline import Call, convert
from mlconv.errors import BadUsage, nearest
from mlconv.input_grammar import parse_inputs
from mlconv.result import Checked, Compared, Conversion, Inspected
from mlconv.worker import Limits, silent

Path: TypeAlias = str | PathLike[str]


class SourceOptions(TypedDict, total=False):
    """What opens a source and feeds it.

    Attributes:
        inputs: Shapes, as ``--input`` takes them: ``["x=batch,3,224,224"]``. Over an example they name the axes that
            are dynamic; without them the shapes are the example's.
        signature, tag: What to take of a SavedModel that has more.
        module, weights, weights_prefix: The module of weights, the weights of a module.
        custom_objects: A Python file with Keras layers of one's own; naming it is the consent to run it.
        trust_pickle, trust_model: Consent to run code that the source holds.
        data: Samples: a ``.npz`` file, a folder, ``FILE.py:NAME``; default: the example and seeded random inputs.
        preprocess: How pictures of ``data`` become inputs.
        seed: Of random samples.
        limits: Time and memory of each worker.
    """

    inputs: Sequence[str]
    signature: str | None
    tag: str | None
    module: str | None
    weights: Path | None
    weights_prefix: str | None
    custom_objects: Path | None
    trust_pickle: bool
    trust_model: bool
    data: Path | None
    preprocess: str | None
    seed: int
    limits: Limits | None


class ConversionOptions(SourceOptions, total=False):
    """What every conversion takes.

    Attributes:
        force: Replace an existing output. Not needed where it is this source's own earlier artifact.
        outputs: Names of the outputs to keep.
        opset, runtime, target_isa, precision, optimize: See `mlconv onnx --help`.
        metadata: Into the artifact and the record.
        samples: How many samples to compare on; an example is the first of them.
        atol, rtol: Instead of the default tolerance, which scales with each output.
        parity: Whether to compare at all.
        write_anyway: Write the artifact although the evidence says no.
        via: A converter of `mlconv formats`.
    """

    force: bool
    outputs: Sequence[str]
    opset: int | None
    runtime: str | None
    target_isa: Literal["vnni", "avx2", "arm", "portable"] | None
    precision: Precision
    optimize: bool
    metadata: Mapping[str, str] | None
    samples: int
    atol: float | None
    rtol: float | None
    parity: bool
    write_anyway: bool
    via: str | None


P = ParamSpec("P")
R = TypeVar("R")


def _listing(kind: type) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let ``help`` and notebooks show the options of ``kind`` with their defaults, and refuse any other by name."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        own = list(inspection.signature(function).parameters.values())[:-1]
        hints = get_type_hints(kind)
        taken = {parameter.name for parameter in own}
        shared = [
            inspection.Parameter(
                name, inspection.Parameter.KEYWORD_ONLY, default=_DEFAULTS[name], annotation=hint
            )
            for name, hint in hints.items()
            if name not in taken
        ]
        known = [*taken, *hints]

        @functools.wraps(function)
        def named(*args: P.args, **given: P.kwargs) -> R:
            for name in given:
                if name not in known:
                    close = nearest(name, known)
                    hint = f"; did you mean {close[0]!r}?" if close else ""
                    raise TypeError(
                        f"{function.__name__}() got an unexpected keyword argument {name!r}{hint}"
                    )
            return function(*args, **given)

        shown: Any = named
        result = inspection.signature(function).return_annotation
        shown.__signature__ = inspection.Signature([*own, *shared], return_annotation=result)
        return named

    return decorate


_DEFAULTS: dict[str, Any] = {
    **{field.name: field.default for field in fields(Options)},
    "inputs": (), "limits": None, "force": False, "write_anyway": False, "via": None, "metadata": None,
}  # fmt: skip


@_listing(ConversionOptions)
def to_onnx(
    source: object,
    output: Path | None = None,
    *,
    example: object = None,
    **options: Unpack[ConversionOptions],
) -> Conversion:
    """Convert a model to ONNX, prove it, write it with its record.

    Args:
        source: A model file or folder, ``FILE.py:NAME``, or a live model: an ``nn.Module``, a Keras model, an
            ``ExportedProgram``, an ``onnx.ModelProto``. A live model is never changed; its own answers are the
            reference.
        output: The ONNX file; default: the source's stem, or the name of a live model's class, in the current folder.
        example: For a live model, what it is called with: a tensor or array, a tuple of arguments, or a mapping by
            name. The artifact has its shapes, but for axes that ``inputs`` names.
        options: See ``mlconv.api.SourceOptions`` and ``ConversionOptions``.

    Returns:
        The whole result; ``ok`` is False where the evidence says no, and then nothing was written unless
        ``write_anyway``.

    Raises:
        MlconvError: Everything that is no verdict.
    """
    return _convert(source, "onnx", output, example, options, {})


@_listing(ConversionOptions)
def to_ort(
    source: object,
    output: Path | None = None,
    *,
    example: object = None,
    target_platform: Literal["amd64", "arm"] | None = None,
    type_reduction: bool = False,
    **options: Unpack[ConversionOptions],
) -> Conversion:
    """Convert a model to the ORT format of onnxruntime's smaller builds; everything else is as for ``to_onnx``.

    Args:
        target_platform: Where it shall run; default: a machine like this.
        type_reduction: List the types of each operator too, for a smaller runtime.
    """
    own = {"target_platform": target_platform, "type_reduction": type_reduction}
    return _convert(source, "ort", output, example, options, own)


def inspect(source: Path, signature: str | None = None, tag: str | None = None) -> Inspected:
    """What a model file says of itself, read without running it or importing a framework."""
    if living.is_live(source):
        raise BadUsage(
            f"inspect reads files, and was given a {type(source).__name__}",
            fix="mlconv.check(model, example=...) runs a live model; to_onnx converts it, and inspect reads what that writes",
        )
    return models.inspect_model(str(source), signature, tag)


@_listing(SourceOptions)
def check(
    source: object, *, example: object = None, runtime: str | None = None, **options: Unpack[SourceOptions]
) -> Checked:
    """Whether a model is sound: its structure, whether its runtime loads it, one run on random inputs or ``data``.

    Args:
        source, example: As for ``to_onnx``; a live model runs on its example.
        runtime: Hold an ONNX model against what a runtime takes: ``onnxruntime==1.17``.
    """
    wanted, limits = _options(options, {"runtime": runtime}), options.get("limits") or Limits()
    with _opened(source, example, wanted) as (path, live):
        if live is not None and live.room is not None:
            from mlconv.checks.live import check_live

            return check_live(live, wanted)
        checked = models.check_model(path, wanted, limits, silent)
    return checked if live is None else replace(checked, ref=live.model.ref)


@_listing(SourceOptions)
def compare(
    reference: object,
    candidate: object,
    *,
    example: object = None,
    outputs: Mapping[str, str] | None = None,
    samples: int = 8,
    atol: float | None = None,
    rtol: float | None = None,
    **options: Unpack[SourceOptions],
) -> Compared:
    """Run two models on the same inputs, each in its own runtime, and judge the candidate.

    Args:
        reference, candidate: Paths, REFs or live models.
        example: Of the live ones among them, see ``to_onnx``; that of a live reference is the first sample.
        outputs: Output of the reference to output of the candidate, where their names differ.
        samples, atol, rtol: As for ``to_onnx``.
    """
    own = {"samples": samples, "atol": atol, "rtol": rtol}
    wanted, limits = _options(options, own), options.get("limits") or Limits()
    pairs = tuple((outputs or {}).items())
    if example is not None and not (living.is_live(reference) or living.is_live(candidate)):
        raise _example_of_a_file()
    of_ours, of_theirs = (example if living.is_live(side) else None for side in (reference, candidate))
    with (
        _opened(reference, of_ours, wanted) as (ours, one),
        _opened(candidate, of_theirs, wanted) as (theirs, other),
    ):
        sides = [
            live if live is not None and live.room is not None else path
            for path, live in ((ours, one), (theirs, other))
        ]
        if sides == [ours, theirs]:
            compared = models.compare_models(ours, theirs, wanted, pairs, limits, silent)
        else:
            from mlconv.checks.live import compare_live

            compared = compare_live(sides[0], sides[1], wanted, pairs, limits)
    names = [path if live is None else live.model.ref for path, live in ((ours, one), (theirs, other))]
    return replace(compared, reference=names[0], candidate=names[1])


# ------------------------------------------------------------------ calls to options


def _convert(
    source: object,
    target: str,
    output: Path | None,
    example: object,
    given: ConversionOptions,
    own: Mapping[str, Any],
) -> Conversion:
    options = _options(given, own)
    with _opened(source, example, options) as (path, live):
        place = f"{live.name}.{target}" if live is not None and output is None else _text(output)
        call = Call(
            place, given.get("force", False), given.get("via"), given.get("write_anyway", False),
            given.get("limits") or Limits(), live=live,
        )  # fmt: skip
        return convert(path, target, options, call)


@contextmanager
def _opened(source: object, example: object, options: Options) -> Iterator[tuple[str, living.Live | None]]:
    """A source as a path or REF, and as a live model where it is one; what could be saved has a path then too."""
    if not living.is_live(source):
        if example is not None:
            raise _example_of_a_file()
        yield str(source), None
        return
    with tempfile.TemporaryDirectory(prefix="mlconv-live-") as folder:
        taken = living.take(source, example, options, _Path(folder))
        yield str(taken.model.path or taken.model.ref), taken


def _example_of_a_file() -> BadUsage:
    return BadUsage(
        "example is for live models, and the source is a file or a REF",
        fix='inputs=["x=1,3,224,224"] gives shapes, data samples',
    )


_READ: dict[str, Callable[[Any], Any]] = {
    "inputs": parse_inputs, "outputs": tuple, "metadata": lambda told: tuple((told or {}).items()),
    **dict.fromkeys(("weights", "custom_objects", "data"), lambda path: None if path is None else str(path)),
}  # fmt: skip
_OF_THE_CALL = frozenset({"force", "write_anyway", "via", "limits"})


def _options(given: Mapping[str, Any], own: Mapping[str, Any]) -> Options:
    """The options of a call.

    Raises:
        BadUsage, BadInputOption: A value is not one that the option takes.
    """
    told = {name: value for name, value in {**given, **own}.items() if name not in _OF_THE_CALL}
    for name in ("inputs", "outputs"):
        if isinstance(told.get(name), str):
            raise BadUsage(
                f"{name} is a list of texts, and was given {told[name]!r}", fix=f"{name}=[{told[name]!r}]"
            )
    precision = told.get("precision", "fp32")
    if precision not in get_args(Precision):
        raise BadUsage(
            f"precision={precision!r}: there are {' and '.join(get_args(Precision))}", fix='precision="fp16"'
        )
    for name, least in (("samples", 1), ("seed", 0)):
        if told.get(name, least) < least:
            raise BadUsage(f"{name}={told[name]}: the least is {least}", fix=f"{name}={least}")
    read = {name: _READ.get(name, _as_it_is)(value) for name, value in told.items()}
    if "inputs" in read:
        read["input"] = read.pop("inputs")
    return Options(**read)


def _as_it_is(value: Any) -> Any:
    return value


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
