"""For test suites: one line that fails where a model no longer converts, with the whole story.

from mlconv.testing import assert_converts

def test_the_network_converts():
    assert_converts(Net(), "onnx", example=(torch.randn(1, 3, 224, 224),))
"""

from __future__ import annotations

import tempfile
from pathlib import Path as _Path
from typing import Literal, Unpack

from mlconv.api import ConversionOptions, Path, to_onnx, to_ort
from mlconv.checks.parity_words import output_line
from mlconv.errors import BadUsage, ConversionError, InputError, MlconvError, WorkerError
from mlconv.result import Conversion

Target = Literal["onnx", "ort"]


def assert_converts(
    model: object,
    target: Target = "onnx",
    output: Path | None = None,
    *,
    example: object = None,
    **options: Unpack[ConversionOptions],
) -> Conversion:
    """Convert a model and hold what comes out against it.

    Args:
        model: What ``mlconv.to_onnx`` takes: a live model, a path, a REF.
        target: The format.
        output: Where to write the artifact; default: a temporary folder, gone when this returns.
        example: What a live model is called with, see ``mlconv.to_onnx``.
        options: As for ``mlconv.to_onnx``: ``inputs``, ``opset``, ``samples``, ``atol``, ``rtol``...

    Returns:
        The conversion; without ``output`` its artifact is no longer there.

    Raises:
        AssertionError: It does not convert, or the evidence says no: the message has id, figures, the place of the
            worst element, warnings and the hint. The error itself is its cause.
        UsageError: The call is wrong: an unknown target, an option that is not taken. No fault of the model.
        SetupError: A package is missing, or a tool does not fit: nothing was said about the model.
    """
    __tracebackhide__ = True  # pytest shows the line of the test
    if output is not None:
        return _asserted(model, target, output, example, options)
    with tempfile.TemporaryDirectory(prefix="mlconv-test-") as folder:
        return _asserted(model, target, _Path(folder) / f"model.{target}", example, options)


def _asserted(
    model: object, target: Target, output: Path, example: object, options: ConversionOptions
) -> Conversion:
    __tracebackhide__ = True
    converters = {"onnx": to_onnx, "ort": to_ort}
    if target not in converters:
        raise BadUsage(
            f"there is no target {target!r}", why=f"there are {', '.join(converters)}", fix='target="onnx"'
        )
    name = model if isinstance(model, (str, _Path)) else type(model).__name__
    try:
        conversion = converters[target](model, output, example=example, **options)
    except (InputError, ConversionError, WorkerError) as error:
        raise AssertionError(f"{name} does not convert to {target}\n{error}") from error
    if conversion.failure is not None:
        raise AssertionError(_story(conversion, conversion.failure)) from conversion.failure
    return conversion


def _story(conversion: Conversion, failure: MlconvError) -> str:
    parity = conversion.checks.get("parity")
    rows = [f"  {output_line(row, parity['computes'])}" for row in parity["outputs"]] if parity else []
    notes = [*conversion.warnings, *(parity["notes"] if parity else ())]
    return "\n".join([str(failure), conversion.summary(), *rows, *(f"  warning: {note}" for note in notes)])
