"""Every error that mlconv raises.

MlconvError
├── UsageError            exit 2   the call cannot be carried out as it was written
├── InputError            exit 3   the source is missing, broken, of the wrong kind, or unsafe
├── ConversionError       exit 4   the conversion itself failed
├── VerdictError          exit 1   the work was done and the evidence says no
├── SetupError     exit 5   a package, a tool or a device is missing
└── WorkerError           exit 7   a limit was reached, or native code crashed
    └── Interrupted       exit 130

Ids go by hundreds with the families. What each means, with an example and cures, stands in
`mlconv.catalogue`, which `mlconv explain` prints and the docs render.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

SCHEMA = "mlconv.error/1"


class MlconvError(Exception):
    """What failed, why where it is known, and what to type next.

    Attributes:
        id: ``MLC`` and three digits; stable, never reused.
        code: The same in words, for people who read JSON.
        exit: The exit code of the command.
        retry: Whether the same call may succeed another time.
    """

    id: ClassVar[str]
    code: ClassVar[str]
    exit: ClassVar[int]
    retry: ClassVar[bool] = False

    def __init__(self, what: str, *, fix: str, why: str | None = None, log: str | None = None) -> None:
        super().__init__(what)
        self.what, self.fix, self.why, self.log = what, fix, why, log

    def __str__(self) -> str:
        """All of it, as a traceback or a notebook shows it; options are told as keyword arguments."""
        from mlconv.hints import in_python
        from mlconv.visible import hanging

        told = [f"[{self.id}] {hanging(self.what)}"]
        told += [f"  why: {hanging(self.why)}"] if self.why else []
        told += [f"hint: {hanging(in_python(self.fix))}"]
        return "\n".join([*told, f"log: {self.log}"] if self.log else told)

    def __reduce__(self) -> tuple[object, ...]:
        """Errors cross between processes, of `multiprocessing` for one, by pickle."""
        return _rebuilt, (type(self), self.what, self.fix, self.why, self.log)

    def to_json(self) -> dict[str, Any]:
        """The document ``mlconv.error/1``."""
        return {
            "schema": SCHEMA, "ok": False, "id": self.id, "code": self.code, "exit": self.exit, "what": self.what,
            "why": self.why, "hint": self.fix, "log": self.log, "retry": self.retry,
        }  # fmt: skip

    @staticmethod
    def from_json(data: dict[str, Any]) -> MlconvError:
        """The error that a worker's reply or a document tells of."""
        return by_id()[data["id"]](data["what"], fix=data["hint"], why=data["why"], log=data["log"])


def _rebuilt(kind: type[MlconvError], what: str, fix: str, why: str | None, log: str | None) -> MlconvError:
    return kind(what, fix=fix, why=why, log=log)


def by_id() -> dict[str, type[MlconvError]]:
    """Every concrete error class by its id."""
    found: dict[str, type[MlconvError]] = {}
    rest = list(MlconvError.__subclasses__())
    while rest:
        kind = rest.pop()
        rest += kind.__subclasses__()
        if "id" in vars(kind):
            found[kind.id] = kind
    return dict(sorted(found.items()))


def nearest(name: str, names: Iterable[str], limit: int = 3) -> list[str]:
    """The names most like a mistyped one, best first; none where nothing is alike."""
    return difflib.get_close_matches(name, list(names), n=limit, cutoff=0.5)


def listed(names: Sequence[str], limit: int = 8) -> str:
    """Names in backticks, cut after `limit` with the number of those left out."""
    shown = ", ".join(f"`{name}`" for name in names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")


def counted(number: int, noun: str) -> str:
    """A number and what it counts: ``1 sample``, ``8 samples``, ``1,024 tensors``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


# ------------------------------------------------------------------ 0xx: the call


class UsageError(MlconvError):
    exit = 2


class BadUsage(UsageError):
    """A word of the command line is not of its grammar."""

    id, code = "MLC001", "usage"


class OutputExists(UsageError):
    id, code = "MLC002", "output-exists"


class OutputUnwritable(UsageError):
    id, code = "MLC003", "output-unwritable"


class UnknownInput(UsageError):
    id, code = "MLC004", "unknown-input"

    @classmethod
    def named(cls, name: str, names: Sequence[str], rest: str = "...") -> UnknownInput:
        """``rest``: what the user typed behind the name."""
        close = nearest(name, names) or list(names)[:3]
        return cls(
            f"the model has no input `{name}`; it has {listed(names) or 'none'}",
            fix=f"--input {shlex.quote(f'{close[0]}={rest}')}" if close else "leave --input out",
        )


class BadInputOption(UsageError):
    id, code = "MLC005", "bad-input-option"


class DataDoesNotFit(UsageError):
    id, code = "MLC006", "data-does-not-fit"


class OptionNotAccepted(UsageError):
    """An option that no converter of the route takes."""

    id, code = "MLC007", "option-not-accepted"


class UnknownErrorId(UsageError):
    id, code = "MLC008", "unknown-error-id"


class ShapesNeeded(UsageError):
    """The source does not tell its input shapes."""

    id, code = "MLC009", "shapes-needed"


class UnknownOutput(UsageError):
    id, code = "MLC010", "unknown-output"


class UnknownSignature(UsageError):
    id, code = "MLC011", "unknown-signature"


class ModuleNeeded(UsageError):
    """Weights without the module that they belong to."""

    id, code = "MLC012", "module-needed"


class OutputIsSource(UsageError):
    id, code = "MLC013", "output-is-source"


class UnsupportedOpset(UsageError):
    id, code = "MLC014", "unsupported-opset"


class UnknownConverter(UsageError):
    id, code = "MLC015", "unknown-converter"


class UnknownSchema(UsageError):
    id, code = "MLC016", "unknown-schema"


class UnknownRuntime(UsageError):
    """A runtime, or a version of one, of which mlconv has no table."""

    id, code = "MLC017", "unknown-runtime"


class BadPreprocess(UsageError):
    """A PREPROCESS that is not of its grammar, or that does not give what the input takes."""

    id, code = "MLC018", "bad-preprocess"


class UnknownTag(UsageError):
    """A SavedModel has no graph of that tag."""

    id, code = "MLC019", "unknown-tag"


# ------------------------------------------------------------------ 1xx: the source


class InputError(MlconvError):
    exit = 3


class MissingFile(InputError):
    id, code = "MLC101", "missing-file"


class Unreadable(InputError):
    """Not a regular file or folder, or no permission to read it."""

    id, code = "MLC102", "unreadable"


class UnknownFormat(InputError):
    id, code = "MLC103", "unknown-format"


class Corrupt(InputError):
    """The format is known, and the content breaks it."""

    id, code = "MLC104", "corrupt"


class WrongFormat(InputError):
    """A known format that this command does not take."""

    id, code = "MLC105", "wrong-format"


class NotConvertible(InputError):
    """A format that is recognised and never converted: the message says what to do instead."""

    id, code = "MLC106", "not-convertible"


class CompiledForEdgeTpu(InputError):
    id, code = "MLC107", "compiled-for-edgetpu"


class UntrustedPickle(InputError):
    id, code = "MLC110", "untrusted-pickle"


class UntrustedCode(InputError):
    """A Keras Lambda, or another place where a model file carries Python."""

    id, code = "MLC111", "untrusted-code"


class UntrustedOperator(InputError):
    """A SavedModel whose graph touches files, the network or Python."""

    id, code = "MLC112", "untrusted-operator"


class PathEscape(InputError):
    id, code = "MLC113", "path-escape"


class RefNotFound(InputError):
    id, code = "MLC114", "ref-not-found"


class WeightsMismatch(InputError):
    id, code = "MLC115", "weights-mismatch"


class ExternalDataMissing(InputError):
    id, code = "MLC116", "external-data-missing"


class UndecodablePicture(InputError):
    """A picture of `--data` that Pillow does not decode."""

    id, code = "MLC117", "undecodable-picture"


# recognised, and never converted: one class for each, so that each has its own advice


class HuggingFaceModel(NotConvertible):
    id, code = "MLC120", "hugging-face"


class KerasWeightsAlone(NotConvertible):
    id, code = "MLC121", "keras-weights"


class GgufFile(NotConvertible):
    id, code = "MLC122", "gguf"


class CompiledCoreMl(NotConvertible):
    id, code = "MLC123", "compiled-coreml"


class TaskBundle(NotConvertible):
    id, code = "MLC124", "task-bundle"


class TensorRtEngine(NotConvertible):
    id, code = "MLC125", "tensorrt-engine"


class OpenVinoModel(NotConvertible):
    id, code = "MLC126", "openvino"


class ExecuTorchProgram(NotConvertible):
    id, code = "MLC127", "executorch"


class AotInductorPackage(NotConvertible):
    id, code = "MLC128", "aotinductor"


class PackedArchive(NotConvertible):
    id, code = "MLC129", "archive"


class ScikitLearnModel(NotConvertible):
    id, code = "MLC130", "scikit-learn"


class CustomObjectsNeeded(InputError):
    """A Keras file that names classes or functions of its author's, whose code it does not hold."""

    id, code = "MLC139", "custom-objects-needed"


class OtherKeras(InputError):
    """Custom objects that were written for the Keras generation that does not load the model."""

    id, code = "MLC140", "other-keras"


class InvalidGraph(InputError):
    """A file that is read whole, and whose graph no runtime takes: its types, names or shapes contradict each other."""

    id, code = "MLC144", "invalid-graph"


# ------------------------------------------------------------------ 2xx: the conversion


class ConversionError(MlconvError):
    exit = 4


class ConverterFailed(ConversionError):
    """The framework's exporter gave up, in words that mlconv does not know better."""

    id, code = "MLC201", "converter-failed"


class DataDependentControlFlow(ConversionError):
    id, code = "MLC210", "data-dependent-control-flow"


class UnsupportedOperator(ConversionError):
    """Operators without a form in the target; the message names all of them."""

    id, code = "MLC214", "unsupported-operator"


class UnsupportedType(ConversionError):
    """Strings, complex numbers, resources: nothing that a runtime takes as a tensor of numbers."""

    id, code = "MLC215", "unsupported-type"


class UserCodeRaised(ConversionError):
    """The user's own module, callable or data generator raised."""

    id, code = "MLC216", "user-code-raised"


class OpsetOutOfReach(ConversionError):
    """The model cannot be expressed at the opset that was asked for."""

    id, code = "MLC217", "opset-out-of-reach"


class SourceDoesNotRun(ConversionError):
    """The source's own framework cannot load it or run it."""

    id, code = "MLC218", "source-does-not-run"


class DeviceBakedIn(ConversionError):
    """A program that names a device which is not here: it was traced or exported on a GPU."""

    id, code = "MLC219", "device-baked-in"


class RuntimeLacksOperator(ConversionError):
    """Operators that the runtime of ``--runtime`` does not have; the message names all of them."""

    id, code = "MLC220", "runtime-lacks-operator"


class InputsRefused(SourceDoesNotRun):
    """The source loads, and does not run on inputs of these shapes, types or values."""

    id, code = "MLC227", "inputs-refused"


class NotRepeatable(SourceDoesNotRun):
    """The source gives another answer to the same inputs: there is nothing to compare with."""

    id, code = "MLC228", "not-repeatable"


class KeepsState(ConverterFailed):
    """The source remembers something from one run to the next, which no graph does."""

    id, code = "MLC229", "keeps-state"


class FixedAxis(ConverterFailed):
    """An axis that was to be dynamic, and that the model holds to one size."""

    id, code = "MLC230", "fixed-axis"


class LeavesTensors(ConversionError):
    """Something is computed outside the framework, where no exporter follows: it would be the example's constant."""

    id, code = "MLC231", "leaves-tensors"


# ------------------------------------------------------------------ 3xx: verdicts


class VerdictError(MlconvError):
    """The evidence says no. A command prints its own document with it, with ``ok: false``."""

    exit = 1


class StructureFailed(VerdictError):
    id, code = "MLC301", "structure"


class LoadFailed(VerdictError):
    id, code = "MLC302", "load"


class NotFinite(VerdictError):
    """NaN or infinity in the outputs."""

    id, code = "MLC303", "not-finite"


class NoKernel(LoadFailed):
    """The runtime knows an operator, and cannot compute it in the type that the model has it in."""

    id, code = "MLC304", "no-kernel"


class ParityFailed(VerdictError):
    id, code = "MLC310", "parity"


class SignaturesDiffer(VerdictError):
    """Outputs that are missing, renamed, or of another shape or dtype."""

    id, code = "MLC311", "signatures-differ"


class CheckFailed(VerdictError):
    id, code = "MLC320", "check-failed"


# ------------------------------------------------------------------ 7xx: the worker


class WorkerError(MlconvError):
    exit = 7


class TimedOut(WorkerError):
    id, code, retry = "MLC701", "time-limit", True


class OutOfMemory(WorkerError):
    id, code, retry = "MLC702", "memory-limit", True


class Crashed(WorkerError):
    """Native code ended the worker: a signal, or an exit without a reply."""

    id, code = "MLC703", "crashed"


class Interrupted(WorkerError):
    id, code, exit, retry = "MLC710", "interrupted", 130, True


class InternalError(WorkerError):
    """A defect of mlconv itself."""

    id, code = "MLC799", "internal-error"


# ------------------------------------------------------------------ 9xx: the environment


class SetupError(MlconvError):
    exit = 5


class MissingPackage(SetupError):
    id, code = "MLC901", "missing-package"


class ConflictingPackages(SetupError):
    id, code = "MLC902", "conflicting-packages"


class UnusableInterpreter(SetupError):
    """`MLCONV_PYTHON_<NAME>` points at something that is no Python."""

    id, code = "MLC903", "unusable-interpreter"


class OutdatedPackage(SetupError):
    """The model was made by a later version of a package than the one that is installed."""

    id, code = "MLC905", "outdated-package"


class DownloadsRefused(SetupError):
    """A user's code wants to fetch something from the network, which cannot be had."""

    id, code = "MLC906", "no-download"
