"""What converts what, and what runs what: two tables of frozen values, built-ins and third parties alike.

Another distribution registers by an entry point of the group ``mlconv.converters`` (or ``mlconv.runners``)
that names a tuple of ``Converter`` (or ``RunnerSpec``) values in a module which imports no framework.
``MLCONV_PLUGINS=off`` leaves them all out.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
from dataclasses import dataclass
from typing import TypeVar

from mlconv.errors import MissingPackage, UnknownConverter, nearest


class _Runs:
    """What a converter and a runner share: packages that they need, and an interpreter to run under."""

    __slots__ = ()
    needs: tuple[str, ...]
    python: str

    def interpreter(self) -> str | None:
        """The interpreter that the user gave for it, or None for our own."""
        return os.environ.get(f"MLCONV_PYTHON_{self.python}") or None if self.python else None

    def missing(self) -> tuple[str, ...]:
        """Packages that are not installed; unknown, hence none, where another interpreter is named."""
        return () if self.interpreter() else absent(self.needs)


@dataclass(frozen=True, slots=True)
class Converter(_Runs):
    """One edge of the graph of formats.

    Attributes:
        name: What `--via` takes and the record tells; one tool may have it for several pairs.
        source: Format that it reads.
        target: Format that it writes.
        run: ``package.module:function``, imported by the worker alone: ``run(Job) -> Converted``.
        needs: Import names of the packages that it cannot do without; `a|b` means that either will do.
        install: What to type where one is missing.
        accepts: Options beyond those that every conversion takes, named as in ``Options``.
        cost: The cheapest route is tried first.
        python: ``MLCONV_PYTHON_<this>`` may name another environment's interpreter.
        packs: Whether it packs finished artifacts of ``source``, as ORT's format is a form of an ONNX artifact. It ends a
            route, the job that finishes the artifact calls it, and it is ``run(Options) -> Packer`` (``mlconv.convert.packing``).
        beside: What it writes beside the artifact, as suffixes to the artifact's stem.
    """

    name: str
    source: str
    target: str
    run: str
    needs: tuple[str, ...] = ()
    install: str = ""
    accepts: frozenset[str] = frozenset()
    cost: int = 10
    python: str = ""
    packs: bool = False
    beside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunnerSpec(_Runs):
    """Something that executes a format.

    Attributes:
        name: As the record tells it: ``onnxruntime-cpu``.
        formats: What it loads.
        open: ``package.module:function``; ``open(ModelFile, Options) -> Runner``.
    """

    name: str
    formats: tuple[str, ...]
    open: str
    needs: tuple[str, ...] = ()
    install: str = ""
    python: str = ""


@dataclass(frozen=True, slots=True)
class BrokenPlugin:
    """An entry point that could not be loaded: a line of `mlconv formats`, never the end of a command."""

    name: str
    distribution: str
    reason: str


_TORCH = "pip install 'mlconv[torch,cpu]'"
_TENSORFLOW = "pip install 'mlconv[tensorflow,cpu]'"
_LITERT = "pip install 'mlconv[tflite,cpu]'"
_TFLITE = "pip install 'mlconv[tflite,tensorflow,cpu]'"
_CPU = "pip install 'mlconv[cpu]'"

_MODULE = frozenset(
    {
        "input",
        "outputs",
        "opset",
        "precision",
        "optimize",
        "weights",
        "weights_prefix",
        "trust_pickle",
        "runtime",
    }
)
_STATE = frozenset({"weights", "weights_prefix", "trust_pickle"})
_GRAPH = frozenset({"input", "opset", "precision", "optimize", "outputs", "runtime"})

CONVERTERS: tuple[Converter, ...] = (
    *(
        Converter("torch-onnx", source, "onnx", "mlconv.convert.torch_to_onnx:run", ("torch", "onnxscript"),
                  _TORCH, accepts, python="TORCH")
        for source, accepts in {
            "torch-export": _MODULE - _STATE | {"signature"},
            "torchscript": _MODULE - _STATE,
            "torch-module": _MODULE,
            "torch-weights": _MODULE - {"weights"} | {"module"},
            "torch-pickle": _MODULE | {"module"},
        }.items()
    ),
    Converter("tf2onnx", "saved-model", "onnx", "mlconv.convert.saved_model_to_onnx:run",
              ("tensorflow", "tf2onnx"), _TENSORFLOW, _GRAPH | {"signature", "tag", "trust_model", "custom_objects"}, python="TENSORFLOW"),
    *(
        Converter("tf2onnx", source, "onnx", "mlconv.convert.keras_to_onnx:run",
                  ("tensorflow", "keras", "tf2onnx"), _TENSORFLOW, _GRAPH | {"trust_model", "custom_objects"}, python="TENSORFLOW")
        for source in ("keras", "keras-h5")
    ),
    Converter("tf2onnx", "tf-graph", "onnx", "mlconv.convert.tf_graph_to_onnx:run",
              ("tensorflow", "tf2onnx"), _TENSORFLOW, _GRAPH | {"trust_model"}, python="TENSORFLOW"),
    Converter("tflite-import", "tflite", "onnx", "mlconv.convert.tflite_to_onnx:run",
              ("ai_edge_litert|tflite_runtime|tensorflow", "onnx_ir"), _LITERT, _GRAPH | {"signature", "target_isa"}, cost=5),
    Converter("tf2onnx", "tflite", "onnx", "mlconv.convert.tensorflow_import.tflite:run",
              ("tensorflow", "tf2onnx"), _TFLITE, _GRAPH | {"signature"}, python="TENSORFLOW"),
    Converter("onnx-rewrite", "onnx", "onnx", "mlconv.convert.onnx_to_onnx:run", ("onnxruntime",), _CPU, _GRAPH),
    Converter("onnxruntime", "onnx", "ort", "mlconv.convert.onnx_to_ort:packer", ("onnxruntime",), _CPU,
              frozenset({"target_platform", "type_reduction"}), packs=True, beside=(".required_operators.config",)),
)  # fmt: skip

RUNNERS: tuple[RunnerSpec, ...] = (
    RunnerSpec("onnxruntime-cpu", ("onnx", "ort"), "mlconv.runners.onnx_session:open_runner", ("onnxruntime",), _CPU),
    RunnerSpec("litert-cpu", ("tflite",), "mlconv.runners.litert:open_runner",
               ("ai_edge_litert|tflite_runtime|tensorflow",), "pip install 'mlconv[tflite]'",
               "TENSORFLOW"),
    RunnerSpec("torch-cpu", ("torch-export", "torchscript", "torch-module", "torch-weights", "torch-pickle"),
               "mlconv.convert.torch_import.source:open_runner", ("torch",), "pip install 'mlconv[torch]'", "TORCH"),
    RunnerSpec("tensorflow-cpu", ("saved-model",), "mlconv.convert.saved_model_to_onnx:open_runner", ("tensorflow",),
               "pip install 'mlconv[tensorflow]'", "TENSORFLOW"),
    RunnerSpec("keras-cpu", ("keras", "keras-h5"), "mlconv.convert.keras_to_onnx:open_runner", ("tensorflow", "keras"),
               "pip install 'mlconv[tensorflow]'", "TENSORFLOW"),
    RunnerSpec("tensorflow-graph-cpu", ("tf-graph",), "mlconv.convert.tf_graph_to_onnx:open_runner", ("tensorflow",),
               "pip install 'mlconv[tensorflow]'", "TENSORFLOW"),
)  # fmt: skip

T = TypeVar("T", Converter, RunnerSpec)


def converters() -> tuple[Converter, ...]:
    """Built-in and third-party converters."""
    return CONVERTERS + _plugins("mlconv.converters", Converter)[0]


def runners() -> tuple[RunnerSpec, ...]:
    """Built-in and third-party runners."""
    return RUNNERS + _plugins("mlconv.runners", RunnerSpec)[0]


def broken_plugins() -> tuple[BrokenPlugin, ...]:
    """Entry points that could not be loaded, with the reason."""
    return _plugins("mlconv.converters", Converter)[1] + _plugins("mlconv.runners", RunnerSpec)[1]


Route = tuple[Converter, ...]


def routes(source: str, target: str, via: str | None = None) -> tuple[Route, ...]:
    """Every route without a repeated format, best first: those whose packages are there, then by cost and length.

    Args:
        via: The name of a converter that the route must pass.

    Raises:
        UnknownConverter: No route passes ``via``.
    """
    all_routes = _routes(source, target)
    found = [route for route in all_routes if via is None or via in {c.name for c in route}]
    if via is not None and not found:
        names = sorted({c.name for route in all_routes for c in route})
        close = nearest(via, names) or names
        raise UnknownConverter(
            f"no converter `{via}` leads from {source} to {target}", why=f"these do: {', '.join(names) or 'none'}",
            fix=f"--via {close[0]}" if close else "mlconv formats",
        )  # fmt: skip
    return tuple(
        sorted(
            found, key=lambda route: (any(c.missing() for c in route), sum(c.cost for c in route), len(route))
        )
    )


def _routes(source: str, target: str) -> list[Route]:
    """Walks to the target, and walks to what some converter packs as the target."""
    packers = [converter for converter in converters() if converter.packs and converter.target == target]
    table = tuple(converter for converter in converters() if not converter.packs)
    packed = [(*walk, packer) for packer in packers for walk in _walks(source, packer.source, (), table)]
    return [*_walks(source, target, (), table), *packed]


def _walks(source: str, target: str, passed: Route, table: tuple[Converter, ...]) -> list[Route]:
    found: list[Route] = []
    for converter in table:
        if converter.source != source:
            continue
        if converter.target == target:
            found.append((*passed, converter))
        elif converter.target not in {source, *(step.source for step in passed)}:
            found += _walks(converter.target, target, (*passed, converter), table)
    return found


def runner_for(format_: str) -> RunnerSpec | None:
    """The runner of a format: the first that is installed, else the first that there is."""
    fit = [spec for spec in runners() if format_ in spec.formats]
    return min(fit, key=lambda spec: bool(spec.missing()), default=None)


def require(value: Converter | RunnerSpec) -> None:
    """Refuse what cannot run here.

    Raises:
        MissingPackage: With the exact command that installs what is missing.
    """
    missing = value.missing()
    if missing:
        packages = ", ".join(f"`{name.replace('|', '` or `')}`" for name in missing)
        raise MissingPackage(f"`{value.name}` needs {packages}, which {'is' if len(missing) == 1 else 'are'} not installed",
                             fix=value.install or f"pip install {' '.join(missing)}")  # fmt: skip


def absent(modules: tuple[str, ...]) -> tuple[str, ...]:
    """Those of some modules that cannot be imported here, found without importing them; `a|b`: either will do."""
    return tuple(names for names in modules if not any(map(_is_installed, names.split("|"))))


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


@functools.cache
def _plugins(group: str, kind: type[T]) -> tuple[tuple[T, ...], tuple[BrokenPlugin, ...]]:
    found: list[T] = []
    broken: list[BrokenPlugin] = []
    if os.environ.get("MLCONV_PLUGINS") == "off":
        return (), ()
    for entry in importlib.metadata.entry_points(group=group):
        distribution = entry.dist.name if entry.dist else "?"
        try:
            values = tuple(entry.load())
            strange = [value for value in values if not isinstance(value, kind)]
            if strange:
                raise TypeError(f"{strange[0]!r} is no {kind.__name__}")
            found += values
        except Exception as error:  # noqa: BLE001  # a stranger's module may raise anything, and must not end the command
            broken.append(BrokenPlugin(entry.name, distribution, f"{type(error).__name__}: {error}"))
    return tuple(found), tuple(broken)
