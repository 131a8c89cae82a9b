"""ONNX and ORT files in onnxruntime on the CPU.

Only a worker imports this module: it imports onnxruntime.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime

from mlconv.convert.job import Options
from mlconv.errors import SourceDoesNotRun
from mlconv.formats import ModelFile, ort_file
from mlconv.formats.refs import for_shell
from mlconv.messages.onnxruntime_words import plain
from mlconv.runners import ort_blocks, x86
from mlconv.runners.base import Feeds, Outputs
from mlconv.runners.onnx_types import NUMPY_NAMES, dims, states_told
from mlconv.tensors import TensorSpec

ERRORS_ONLY = (
    3  # onnxruntime.SessionOptions.log_severity_level: 0 verbose, 1 info, 2 warning, 3 error, 4 fatal
)
_FATAL_ONLY = 4

_BY_ORT_NAME = {
    "tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16", "tensor(bfloat16)": "bfloat16",
    "tensor(bool)": "bool", "tensor(string)": "str", "tensor(complex64)": "complex64", "tensor(complex128)": "complex128",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (4, 8, 16, 32, 64)},
}  # fmt: skip
_RAW_BITS = {"bfloat16": np.uint16}
"""What onnxruntime's binding takes in place of dtypes that numpy does not have."""
_ELEMENT_TYPES = {name: number for number, name in NUMPY_NAMES.items()}


class OnnxSession:
    """A model loaded by onnxruntime's CPU provider.

    Args:
        path: An ``.onnx`` or ``.ort`` file, told apart by content; or a serialised ModelProto.
        threads: Of one operator; None: onnxruntime's own choice.
        optimize: False switches all graph optimisations off.

    Attributes:
        states: By each optional input that is a variable of the file's source, the output that carries it on.

    Raises:
        OtherVectors: An ORT file would load and give wrong answers.
        Exception: onnxruntime's own, where it refuses the model.
    """

    name = "onnxruntime-cpu"

    def __init__(self, path: Path | bytes, threads: int | None = None, *, optimize: bool = True) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = ERRORS_ONLY
        if threads is not None:
            options.intra_op_num_threads = threads
        if not optimize:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        if x86.saturates():
            options.add_session_config_entry(x86.PRECISE, "1")
        model: str | bytes = path if isinstance(path, bytes) else str(path)
        if isinstance(path, Path):
            is_ort = _is_ort(path)
            if is_ort:
                ort_blocks.assert_fits(path)
            options.add_session_config_entry("session.load_model_format", "ORT" if is_ort else "ONNX")
        self._session: Any = _session(model, options)
        puts, outs = self._session.get_inputs(), self._session.get_outputs()
        # onnxruntime tells [] for a scalar and for a tensor of unknown rank alike: the file knows which
        unranked = _unranked(path) if any(not put.shape for put in (*puts, *outs)) else frozenset()
        self.inputs = tuple(_spec(put, unranked) for put in puts)
        self.outputs = tuple(_spec(out, unranked) for out in outs)
        told = states_told(self._session.get_modelmeta().custom_metadata_map)
        variables = [_spec(put, frozenset()) for put in self._session.get_overridable_initializers()]
        given = {spec.name for spec in self.outputs}
        self._variables = tuple(spec for spec in variables if told.get(spec.name) in given)
        self.states = {spec.name: told[spec.name] for spec in self._variables}
        self._left: dict[str, np.ndarray] = {}
        self._needs_values = any(
            spec.dtype in _RAW_BITS for spec in (*self.inputs, *self._variables, *self.outputs)
        )

    def run(self, feeds: Feeds) -> Outputs:
        """One run; variables that ``feeds`` leaves out begin fresh."""
        outputs = self._run(feeds)
        self._left = {given: outputs[output] for given, output in self.states.items()}
        return outputs

    def run_on(self, feeds: Feeds) -> Outputs:
        """A run that begins with the variables that the last one left."""
        return self.run({**feeds, **self._left})

    def _run(self, feeds: Feeds) -> Outputs:
        names = [spec.name for spec in self.outputs]
        if self._needs_values:
            return dict(zip(names, self._run_values(feeds, names), strict=True))
        arrays = {
            spec.name: np.ascontiguousarray(feeds[spec.name]).reshape(np.shape(feeds[spec.name]))
            for spec in self._fed(feeds)
        }
        return dict(zip(names, self._session.run(names, arrays), strict=True))

    def _fed(self, feeds: Feeds) -> tuple[TensorSpec, ...]:
        return (*self.inputs, *(spec for spec in self._variables if spec.name in feeds))

    def _run_values(self, feeds: Feeds, names: Sequence[str]) -> list[np.ndarray]:
        values = {spec.name: _to_value(np.asarray(feeds[spec.name]), spec.dtype) for spec in self._fed(feeds)}
        return [_from_value(value) for value in self._session.run_with_ort_values(names, values)]

    def spread(self, feeds: Feeds) -> Outputs | None:  # noqa: ARG002  the protocol's
        return None

    def close(self) -> None:
        """Give the model's memory back; ``run`` raises from then on."""
        self._session = None


def _session(model: str | bytes, options: Any) -> Any:
    """A session of the CPU provider; without optimisation where the exact 8-bit kernels of x86 cannot be chosen with it."""
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # onnxruntime 1.31 rewrites signed weights there, and fails where two operators share a zero point or their weights
        if not x86.saturates() or "Attempt to replace the existing tensor" not in str(error):
            raise
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def open_runner(model: ModelFile, options: Options) -> OnnxSession:  # noqa: ARG001  as every runner's
    """The runner of a source or an artifact.

    Raises:
        SourceDoesNotRun: onnxruntime refuses the file.
    """
    try:
        return OnnxSession(cast("Path", model.path))
    except Exception as error:
        raise SourceDoesNotRun(
            f"onnxruntime does not load `{model.ref}`",
            why=decisive(error),
            fix=f"mlconv check {for_shell(model.ref)}",
        ) from error


def decisive(error: BaseException) -> str:
    """What onnxruntime means by an error, on one line; see ``onnxruntime_words.plain``."""
    return plain(str(error)) or type(error).__name__


@functools.cache
def onnxruntime_limits() -> tuple[int, int]:
    """The newest opset of the default domain and the newest IR version that the installed onnxruntime loads.

    It tells them nowhere (its operator schemas hold some of unreleased opsets), so one-operator models are loaded:
    from what the installed onnx knows downwards, a millisecond each.
    """
    import onnx

    newest_opset, newest_ir = onnx.defs.onnx_opset_version(), int(onnx.IR_VERSION)
    opset = _first(range(newest_opset, 6, -1), lambda opset: _loads(opset, ir_version=4))
    return opset, _first(range(newest_ir, 2, -1), lambda ir_version: _loads(7, ir_version))


def _first(candidates: range, loads: Callable[[int], bool]) -> int:
    return next((candidate for candidate in candidates if loads(candidate)), candidates[-1])


def _loads(opset: int, ir_version: int) -> bool:
    from onnx import TensorProto, helper

    put, out = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "probe", [put], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # onnxruntime's exceptions have no base class of their own
        return False
    return True


@functools.cache
def onnxruntime_operators() -> frozenset[tuple[str, str]]:
    """Domain and name of every operator that the installed onnxruntime has a schema of, its own domains included."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return frozenset((schema.domain, schema.name) for schema in state.get_all_operator_schema())


def _is_ort(path: Path) -> bool:
    with path.open("rb") as file:
        return ort_file.is_ort(file.read(8))


def _spec(put: Any, unranked: frozenset[str]) -> TensorSpec:
    """A sequence, a map or an optional is not an array: its own words stand in for the dtype."""
    dtype = _BY_ORT_NAME.get(put.type)
    return TensorSpec(
        put.name, dims(put.shape) if dtype and put.name not in unranked else None, dtype or put.type
    )


def _unranked(model: Path | bytes) -> frozenset[str]:
    """Inputs and outputs that a file declares without a shape."""
    import onnx

    if isinstance(model, bytes):
        proto = onnx.ModelProto.FromString(model)
    else:
        proto = ort_file.load(model) if _is_ort(model) else onnx.load(model, load_external_data=False)
    puts = (*proto.graph.input, *proto.graph.output)
    return frozenset(put.name for put in puts if not put.type.tensor_type.HasField("shape"))


def _to_value(array: np.ndarray, dtype: str) -> Any:
    if dtype not in _RAW_BITS:
        return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
    if array.dtype != _RAW_BITS[dtype]:
        import ml_dtypes

        array = array.astype(getattr(ml_dtypes, dtype)).view(_RAW_BITS[dtype])
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(
        np.ascontiguousarray(array), _ELEMENT_TYPES[dtype]
    )


def _from_value(value: Any) -> np.ndarray:
    dtype = _BY_ORT_NAME.get(value.data_type())
    if dtype not in _RAW_BITS:
        return np.asarray(value.numpy())
    import ctypes

    import ml_dtypes

    # The binding has no numpy form of bfloat16; the value stays alive while its memory is copied.
    bits = ctypes.string_at(value.data_ptr(), 2 * int(np.prod(value.shape())))
    array: np.ndarray = np.frombuffer(bits, getattr(ml_dtypes, dtype)).reshape(value.shape())
    return array
