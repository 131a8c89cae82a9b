"""ONNX to ORT format, and the list of operators that a smaller build of onnxruntime needs for it; by onnxruntime itself.

Only a worker imports this module: it imports onnxruntime.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from onnx import ModelProto

from mlconv.convert.job import Options
from mlconv.convert.onnx_graph.canonical import canonical
from mlconv.convert.onnx_graph.file import load, save
from mlconv.convert.ort_bytes import in_order
from mlconv.convert.packing import Packed
from mlconv.errors import ConverterFailed, counted
from mlconv.formats import ort_file
from mlconv.runners import ort_blocks
from mlconv.runners.onnx_session import ERRORS_ONLY, decisive

_LIMIT_BYTES = 1 << 31  # offsets within a flatbuffer are signed, and of 32 bits


def this_platform() -> str:
    """The target platform that fits this machine: ``arm`` is the one without anything of x86."""
    return "amd64" if platform.machine().lower() in ("x86_64", "amd64", "i386", "i686") else "arm"


def packer(options: Options) -> OrtPacker:
    """The packer of one conversion; see ``convert.packing``."""
    return OrtPacker(options.target_platform or this_platform(), options.type_reduction, options.optimize)


@dataclass(frozen=True, slots=True)
class OrtPacker:
    """Writes ORT format of the `Fixed` style: optimized here, since the smaller builds have no optimizers.

    Attributes:
        platform: One of ``packing.PLATFORMS``. ``amd64`` lays convolutions out for the vectors of this machine and keeps
            8-bit activations unsigned, ``arm`` does neither: `--target_platform` of onnxruntime's own
            tools/convert_onnx_models_to_ort.py.
        types: Whether the list tells the types of each operator too.
        optimize: False writes the graph as it is.
    """

    platform: str
    types: bool
    optimize: bool

    @property
    def exporter(self) -> str:
        return f"onnxruntime for {self.platform}"

    @property
    def versions(self) -> dict[str, str]:
        return {"onnxruntime": onnxruntime.__version__}

    @property
    def settings(self) -> dict[str, str]:
        block = ort_blocks.block() if self.platform == "amd64" and self.optimize else None
        return {"target_platform": self.platform, **({ort_blocks.KEY: str(block)} if block else {})}

    def pack(self, finished: Path, output: Path, beside: tuple[Path, ...]) -> Packed:
        (config,) = beside
        self._write(finished, output)
        output.write_bytes(in_order(output.read_bytes()))
        config.write_text("".join(required_operators(output, types=self.types)), encoding="utf-8")
        packed, model = ort_file.load(output), onnx.load(finished, load_external_data=False)
        return Packed(
            (output, config),
            _told(packed),
            _fault(packed, model),
            tuple(self._warnings(packed, model)),
        )

    def _write(self, finished: Path, output: Path) -> None:
        """Let onnxruntime load the ONNX file and save what it made of it.

        Raises:
            ConverterFailed: It does not load it, or the result is beyond what the format holds.
        """
        weights = sum(path.stat().st_size for path in finished.parent.glob(f"{finished.stem}.*"))
        if weights >= _LIMIT_BYTES:
            raise ConverterFailed(
                f"the ORT format holds less than 2 GiB, and this model has {weights / 2**30:.1f}",
                fix="mlconv onnx writes it, with its weights in a file beside it; --precision fp16 halves it",
            )
        if not self.optimize:
            _resave(finished, output, "ORT", optimize=False)
            return
        optimized = finished.with_name("optimized.onnx")
        left_out = [] if self.platform == "amd64" else ["NchwcTransformer"]
        _resave(finished, optimized, "ONNX", optimize=True, left_out=left_out, signed=self.platform == "arm")
        # Its optimizers name and order what they add by addresses in memory.
        save(canonical(load(optimized), "structural"), optimized)
        _resave(optimized, output, "ORT", optimize=False)

    def _warnings(self, packed: ModelProto, model: ModelProto) -> Iterator[str]:
        if _half_elements(packed) < _half_elements(model):
            yield (
                "onnxruntime has no kernels of half precision for some operators on this machine's CPU, so it wrote them and "
                "their weights in float32: the file computes in float32 there, and is not half as large"
            )
        if ort_blocks.is_laid_out(packed):
            block = ort_blocks.block()
            yield (
                f"convolutions are laid out for this machine, in blocks of {block} channels: a processor with other vectors "
                f"({_OTHERS.get(block or 0, 'of another width')}) loads the file and gives wrong answers; "
                "--target-platform arm writes one for all"
            )
        if self.platform != this_platform():
            yield (
                f"written for {self.platform} and run here, on {platform.machine()}: what was compared are the kernels of "
                "this machine"
            )


def _resave(
    model: Path,
    output: Path,
    kind: str,
    *,
    optimize: bool,
    left_out: Sequence[str] = (),
    signed: bool = False,
) -> None:
    """Let onnxruntime load a model and save it again, optimized or as it is.

    Args:
        kind: What to write, ``ORT`` or ``ONNX``.
        left_out: Optimizers not to be used.
        signed: Whether 8-bit activations may be signed: kernels of ARM take them, those of x86 are slow with them.

    Raises:
        ConverterFailed: It refuses the model.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.intra_op_num_threads = 1  # constants are folded alike, however many cores there are
    options.optimized_model_filepath = str(output)
    options.add_session_config_entry("session.save_model_format", kind)
    options.add_session_config_entry("session.qdqisint8allowed", str(int(signed)))
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    try:
        onnxruntime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"], disabled_optimizers=list(left_out)
        )
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise ConverterFailed(
            "onnxruntime does not load the ONNX graph, so it writes no ORT file of it", why=decisive(error),
            fix="mlconv onnx with the same options and --write-anyway keeps that graph for a look",
        ) from error  # fmt: skip


_OTHERS = {16: "AVX2 and older", 8: "AVX-512"}
"""The vectors that take blocks of another size than this: MlasNchwcGetBlockSize, onnxruntime/core/mlas."""


# ------------------------------------------------------------------ the list of operators


def required_operators(path: Path, *, types: bool) -> Iterator[str]:
    """The lines of a configuration for `build.py --include_ops_by_config` of onnxruntime.

    The grammar is that of docs/Reduced_Operator_Kernel_build.md: ``domain;opset;Operator,...``, and with ``types`` each
    operator is followed by the JSON that onnxruntime's own tool writes for it.
    """
    from onnxruntime.tools.ort_format_model import OperatorTypeUsageManager, OrtFormatModelProcessor

    required: dict[str, dict[int, set[str]]] = {}
    used = OperatorTypeUsageManager() if types else None
    OrtFormatModelProcessor(str(path), required, used).process()
    yield f"# operators of {path.name}\n"
    for domain, by_opset in sorted(required.items()):
        for opset, names in sorted(by_opset.items()):
            told = [
                name + ((used.get_config_entry(domain, name) or "") if used else "") for name in sorted(names)
            ]
            yield f"{domain};{opset};{','.join(told)}\n"


# ------------------------------------------------------------------ reading back


def _told(packed: ModelProto) -> str:
    nodes = list(ort_blocks.nodes(packed.graph))
    version = next((entry.value for entry in packed.metadata_props if entry.key == "ort_version"), "?")
    kinds = len({(node.domain, node.op_type) for node in nodes})
    return f"{counted(len(nodes), 'operator')} of {counted(kinds, 'kind')}, format version {version}"


def _fault(packed: ModelProto, model: ModelProto) -> str | None:
    """What the file lost of the ONNX model that it was made of: names of inputs and outputs, metadata."""
    for kind in ("input", "output"):
        ours, theirs = (_names(getattr(side.graph, kind)) for side in (model, packed))
        if ours != theirs:
            return f"its {kind}s are {', '.join(theirs)}, and those of the ONNX model {', '.join(ours)}"
    kept = {entry.key: entry.value for entry in packed.metadata_props}
    lost = [entry.key for entry in model.metadata_props if kept.get(entry.key) != entry.value]
    return f"its metadata lacks {', '.join(lost)}" if lost else None


def _half_elements(model: ModelProto) -> int:
    """How many numbers of the model's weights are of half precision."""
    return sum(
        math.prod(tensor.dims) for tensor in model.graph.initializer if tensor.data_type == tensor.FLOAT16
    )


def _names(puts: Iterable[Any]) -> list[str]:
    return [put.name for put in puts]
