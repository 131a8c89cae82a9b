"""The library: the same values that the commands print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TypeAlias

from mlconv.checks import models
from mlconv.convert.job import Options, Precision
from mlconv.convert.pipeline import Call, convert
from mlconv.errors import BadInputOption
from mlconv.result import Checked, Compared, Conversion, Inspected
from mlconv.tensors import InputOption, parse_input
from mlconv.worker import Limits, silent

Path: TypeAlias = "str | PathLike[str]"


def to_onnx(
    source: Path,
    output: Path | None = None,
    *,
    force: bool = False,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    signature: str | None = None,
    module: str | None = None,
    weights: Path | None = None,
    trust_pickle: bool = False,
    trust_model: bool = False,
    opset: int | None = None,
    precision: Precision = "fp32",
    optimize: bool = True,
    metadata: Mapping[str, str] | None = None,
    data: Path | None = None,
    samples: int = 8,
    seed: int = 0,
    atol: float | None = None,
    rtol: float | None = None,
    parity: bool = True,
    write_anyway: bool = False,
    via: str | None = None,
    limits: Limits | None = None,
) -> Conversion:
    """Convert a model to ONNX, prove it, write it with its record.

    Args:
        source: A model file or folder, or ``FILE.py:NAME``.
        output: The ONNX file; default: the source's stem in the current folder.
        inputs: Shapes, as ``--input`` takes them: ``"x=batch,3,224,224"``.
        data: Samples for parity, see `mlconv onnx --help`; default: seeded random inputs.
        atol, rtol: Instead of the default tolerance, which scales with each output.

    Returns:
        The whole result; ``ok`` is False where the evidence says no, and then nothing was written unless
        ``write_anyway``.

    Raises:
        MlconvError: Everything that is no verdict.
    """
    options = Options(
        input=_inputs(inputs), outputs=tuple(outputs), signature=signature, module=module,
        weights=_text(weights), trust_pickle=trust_pickle, trust_model=trust_model, opset=opset, precision=precision,
        optimize=optimize, metadata=tuple((metadata or {}).items()), data=_text(data), samples=samples, seed=seed,
        atol=atol, rtol=rtol, parity=parity,
    )  # fmt: skip
    call = Call(_text(output), force, via, write_anyway, limits or Limits())
    return convert(str(source), "onnx", options, call)


def inspect(source: Path, signature: str | None = None) -> Inspected:
    """What a model file says of itself, read without running it or importing a framework."""
    return models.inspect_model(str(source), signature)


def check(
    source: Path,
    *,
    inputs: Sequence[str] = (),
    signature: str | None = None,
    module: str | None = None,
    weights: Path | None = None,
    trust_pickle: bool = False,
    trust_model: bool = False,
    data: Path | None = None,
    seed: int = 0,
    limits: Limits | None = None,
) -> Checked:
    """Whether a model is sound: its structure, whether its runtime loads it, one run on random inputs or ``data``."""
    options = Options(
        input=_inputs(inputs), signature=signature, module=module, weights=_text(weights), trust_pickle=trust_pickle,
        trust_model=trust_model, data=_text(data), seed=seed,
    )  # fmt: skip
    return models.check_model(str(source), options, limits or Limits(), silent)


def compare(
    reference: Path,
    candidate: Path,
    *,
    inputs: Sequence[str] = (),
    outputs: Mapping[str, str] | None = None,
    signature: str | None = None,
    module: str | None = None,
    weights: Path | None = None,
    trust_pickle: bool = False,
    trust_model: bool = False,
    data: Path | None = None,
    samples: int = 8,
    seed: int = 0,
    atol: float | None = None,
    rtol: float | None = None,
    limits: Limits | None = None,
) -> Compared:
    """Run two models on the same inputs, each in its own runtime, and judge the candidate.

    Args:
        outputs: Output of the reference to output of the candidate, where their names differ.
    """
    options = Options(
        input=_inputs(inputs), signature=signature, module=module, weights=_text(weights), trust_pickle=trust_pickle,
        trust_model=trust_model, data=_text(data), samples=samples, seed=seed, atol=atol, rtol=rtol,
    )  # fmt: skip
    pairs = tuple((outputs or {}).items())
    return models.compare_models(str(reference), str(candidate), options, pairs, limits or Limits(), silent)


def _inputs(texts: Sequence[str]) -> tuple[InputOption, ...]:
    try:
        return tuple(parse_input(text) for text in texts)
    except ValueError as error:
        raise BadInputOption(str(error), fix='inputs=["x=1,3,224,224"]') from error


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
