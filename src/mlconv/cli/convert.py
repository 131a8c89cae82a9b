"""`mlconv onnx` and `mlconv ort`."""

from __future__ import annotations

from dataclasses import replace

import typer

from mlconv.checks.parity_words import output_line
from mlconv.cli import options as o
from mlconv.cli.terminal import Session
from mlconv.convert.job import Options
from mlconv.result import Conversion
from mlconv.visible import one_line


def register(app: typer.Typer) -> None:
    """Add the converting commands."""
    app.command(
        "onnx", help="Convert a PyTorch, TensorFlow, Keras, TFLite or ONNX model to ONNX, and prove it."
    )(o.grouped(onnx))
    app.command(
        "ort", help="Convert the same models to the ORT format of onnxruntime's smaller builds, and prove it."
    )(o.grouped(ort))


def onnx(
    ctx: typer.Context,
    source: o.Source,
    of_source: o.SourceOptions,
    of_conversion: o.ConversionOptions,
    opset: o.Opset = None,
    runtime: o.Runtime = None,
    target_isa: o.TargetIsa = None,
) -> int:
    wanted = replace(of_source.options(), opset=opset, runtime=runtime, target_isa=target_isa)
    return _convert(ctx.obj, source, "onnx", of_conversion.over(wanted), of_source, of_conversion)


def ort(
    ctx: typer.Context,
    source: o.Source,
    of_source: o.SourceOptions,
    of_conversion: o.ConversionOptions,
    opset: o.Opset = None,
    runtime: o.Runtime = None,
    target_isa: o.TargetIsa = None,
    target_platform: o.TargetPlatform = None,
    type_reduction: o.TypeReduction = False,
) -> int:
    wanted = replace(
        of_source.options(),
        opset=opset,
        runtime=runtime,
        target_isa=target_isa,
        target_platform=target_platform,
        type_reduction=type_reduction,
    )
    return _convert(ctx.obj, source, "ort", of_conversion.over(wanted), of_source, of_conversion)


def _convert(
    session: Session,
    source: str,
    target: str,
    options: Options,
    of_source: o.SourceOptions,
    asked: o.ConversionOptions,
) -> int:
    from mlconv.convert.pipeline import Call, convert

    with session.progress() as progress:
        call = Call(asked.output, asked.force, asked.via, asked.write_anyway, of_source.limits(), progress)
        conversion = convert(source, target, options, call)
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
        session.note("\n".join(f"  {one_line(row)}" for row in rows))
    session.warnings([*conversion.warnings, *(parity["notes"] if parity else ())])
    if conversion.failure is not None:
        session.error(conversion.failure)
        return 1
    session.path(conversion.artifact.path)
    return 0
