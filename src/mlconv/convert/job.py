"""What crosses between the command and a worker: a job, and what a converter makes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlconv.formats import ModelFile
from mlconv.pictures.record import Preprocessed
from mlconv.tensors import Axis, InputOption, TensorSpec

if TYPE_CHECKING:
    from mlconv.runners.base import Runner

Precision = Literal["fp32", "fp16"]


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a conversion, as design §3 names them; a default means that the user did not give it."""

    input: tuple[InputOption, ...] = ()
    outputs: tuple[str, ...] = ()
    signature: str | None = None
    tag: str | None = None
    module: str | None = None
    weights: str | None = None
    weights_prefix: str | None = None
    custom_objects: str | None = None
    trust_pickle: bool = False
    trust_model: bool = False
    precision: Precision = "fp32"
    quantize: str = "none"
    dequantize: bool = False
    layout: tuple[str, ...] = ()
    image: tuple[str, ...] = ()
    labels: str | None = None
    target_isa: str | None = None
    target_platform: str | None = None
    type_reduction: bool = False
    optimize: bool = True
    opset: int | None = None
    runtime: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    data: str | None = None
    preprocess: str | None = None
    samples: int = 8
    seed: int = 0
    atol: float | None = None
    rtol: float | None = None
    parity: bool = True


@dataclass(frozen=True, slots=True)
class Job:
    """One conversion by one converter.

    Attributes:
        source: The model to read; never written to.
        target: The format to make.
        output: Where the converter writes it: a path inside ``scratch``.
        scratch: A folder of the job's own, removed afterwards.
    """

    source: ModelFile
    target: str
    output: Path
    scratch: Path
    options: Options = field(default_factory=Options)


@dataclass(slots=True)
class Converted:
    """What a converter hands back, inside the worker.

    Attributes:
        inputs: The source's signature in its own order, with the user's names; the artifact has the same names,
            in the same order, and so has ``reference``.
        outputs: The same for outputs.
        reference: The source, loaded in its own framework and ready to run.
        exporter: What the summary calls the tool: ``torch dynamo exporter``, ``tf2onnx``.
        packages: Distributions whose versions the record tells.
        warnings: One sentence each.
        weights: Where a module's parameters came from; None where the source holds them itself.
        axes: The ranges of dynamic axes that the source itself tells; ``--input`` overrides them.
        example: An array by input name, where the source came with inputs on which it is known to run.
        settings: Choices that shaped the artifact beyond the options given, for the record: ``{"target_isa": "vnni"}``.
        tuned: Whether the graph is arranged for its runtime already, so that nothing simplifies it.
        states: Names of the optional inputs and of the outputs that carry the source's variables; they follow its own. Empty where
            they are in the source's file, whose runner then tells them.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    reference: Runner
    exporter: str
    packages: tuple[str, ...] = ()
    warnings: list[str] = field(default_factory=list)
    weights: str | None = None
    axes: dict[str, Axis] = field(default_factory=dict)
    example: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    tuned: bool = False
    states: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Referenced:
    """The source's own answers, on disk.

    Attributes:
        runner: What ran it, e.g. ``torch-cpu``.
        files: One ``.npz`` a sample: ``in0, in1, ...`` and ``out0, out1, ...`` in the signature's order.
        spread: Of each sample and output, how far the runtime's own kernels lie apart; empty where it has one kind.
        spread_share: Of each output, the share of elements on which they differ.
        noise: Of each sample and output, how far it moved when the last bit of the floating-point inputs did.
        samples: How many samples the files hold; a row of the user's data is one.
        notes: What was left out, in words.
        preprocess: What was done to pictures; None where the user gave none.
        kernels: Which of the runtime's kernels answered, where it has several sets: ``XNNPACK``.
        steps: As ``files``, of runs in a row, each from the variables that the last one left; empty where there are none.
    """

    runner: str
    files: tuple[Path, ...] = ()
    spread: tuple[tuple[float, ...], ...] = ()
    spread_share: tuple[float, ...] = ()
    noise: tuple[tuple[float, ...], ...] = ()
    samples: int = 0
    notes: tuple[str, ...] = ()
    preprocess: Preprocessed | None = None
    kernels: str | None = None
    steps: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Sourced:
    """What the source's worker tells the command; ``stable_names``: whether two runs name the graph's values alike.

    The others are as in ``Converted``.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    exporter: str
    versions: dict[str, str]
    warnings: tuple[str, ...]
    weights: str | None
    seconds: float
    referenced: Referenced | None
    stable_names: bool = True
    settings: dict[str, Any] = field(default_factory=dict)
    tuned: bool = False
    states: tuple[tuple[str, str], ...] = ()
