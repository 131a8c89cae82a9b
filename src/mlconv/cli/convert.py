"""`mlconv onnx`."""

from __future__ import annotations

import typer

from mlconv.checks.parity_words import output_line
from mlconv.cli import options as o
from mlconv.cli.terminal import Session
from mlconv.convert.job import Options
from mlconv.result import Conversion


def register(app: typer.Typer) -> None:
    """Add the converting commands."""
    app.command(
        "onnx", help="Convert a PyTorch, TensorFlow, Keras, TFLite or ONNX model to ONNX, and prove it."
    )(onnx)


def onnx(
    ctx: typer.Context,
    source: o.Source,
    output: o.Output = None,
    force: o.Force = False,
    input: o.Input = None,
    outputs: o.Outputs = None,
    signature: o.Signature = None,
    module: o.Module = None,
    weights: o.Weights = None,
    trust_pickle: o.TrustPickle = False,
    trust_model: o.TrustModel = False,
    opset: o.Opset = None,
    precision: o.PrecisionOption = "fp32",
    optimize: o.Optimize = True,
    quantize: o.Quantize = "none",
    dequantize: o.Dequantize = False,
    layout: o.Layout = None,
    metadata: o.Metadata = None,
    data: o.Data = None,
    samples: o.Samples = 8,
    seed: o.Seed = 0,
    atol: o.Atol = None,
    rtol: o.Rtol = None,
    no_parity: o.Parity = False,
    write_anyway: o.WriteAnyway = False,
    via: o.Via = None,
    timeout: o.Timeout = 1800.0,
    memory: o.Memory = None,
) -> int:
    from mlconv.convert.pipeline import Call, convert

    session: Session = ctx.obj
    wanted = Options(
        input=o.inputs(input), outputs=o.names(outputs), signature=signature, module=module, weights=weights,
        trust_pickle=trust_pickle, trust_model=trust_model, precision=o.precision(precision), quantize=quantize,
        dequantize=dequantize, layout=tuple(layout or ()), optimize=optimize, opset=opset,
        metadata=o.pairs(metadata, "--metadata"), data=data, samples=samples, seed=seed, atol=atol, rtol=rtol,
        parity=not no_parity,
    )  # fmt: skip
    with session.progress() as progress:
        call = Call(output, force, via, write_anyway, o.limits(timeout, memory), progress)
        conversion = convert(source, "onnx", wanted, call)
    return show(session, conversion)


def show(session: Session, conversion: Conversion) -> int:
    """Print a conversion: the artifact's path on stdout, the summary and the verdict on stderr."""
    if session.json:
        session.document(conversion.to_json())
        return 0 if conversion.ok else 1
    session.note(conversion.summary())
    parity = conversion.checks.get("parity")
    if session.verbose:
        for step in conversion.route:
            versions = ", ".join(f"{name} {version}" for name, version in step.versions.items())
            session.note(f"  {step.converter}: {step.exporter}, {versions}, {step.seconds:.1f} s")
        rows = [output_line(row, parity["computes"]) for row in parity["outputs"]] if parity else []
        session.note("\n".join(f"  {row}" for row in rows))
    session.warnings([*conversion.warnings, *(parity["notes"] if parity else ())])
    if conversion.failure is not None:
        session.error(conversion.failure)
        return 1
    session.result(conversion.artifact.path)
    return 0
