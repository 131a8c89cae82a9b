"""The models of `messages.toml`: each function lays into a folder what makes a framework or a runtime fail.

Where the advice is to change the model, ``cured=True`` lays the changed one there.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper
from tests.convert.tflite_models import TfliteGraph

FLOAT, DOUBLE, INT64 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64
Shape = Sequence[int | str]
node = helper.make_node


# ------------------------------------------------------------------ PyTorch


def torch_nets(folder: Path, *, cured: bool = False) -> None:
    shutil.copyfile(Path(__file__).with_name("message_nets.py"), folder / "nets.py")


def torchscript(folder: Path, *, cured: bool = False) -> None:
    """``old.pt``, as a later torch would write it: of a format that this one does not know."""
    import torch

    torch.jit.trace(torch.nn.Linear(4, 2), torch.ones(1, 4)).save(str(folder / "plain.pt"))  # type: ignore[no-untyped-call]
    with (
        zipfile.ZipFile(folder / "plain.pt") as plain,
        zipfile.ZipFile(folder / "later.pt", "w") as later,
    ):
        for info in plain.infolist():
            is_version = info.filename.endswith("/version")
            later.writestr(info, b"999\n" if is_version and not cured else plain.read(info))
    (folder / "plain.pt").unlink()


def script_of_a_library(folder: Path, *, cured: bool = False) -> None:
    """TorchScript that calls an operator which another process does not register, as torchvision's."""
    import torch

    if not hasattr(torch.ops.message_models, "twice"):
        torch.library.define("message_models::twice", "(Tensor x) -> Tensor")
        torch.library.impl("message_models::twice", "CPU", lambda x: 2 * x)

    class Twice(torch.nn.Linear):
        def forward(self, x: Any) -> Any:
            return super().forward(x if cured else torch.ops.message_models.twice(x))

    torch.jit.trace(Twice(4, 2), torch.ones(1, 4)).save(str(folder / "net.pt"))  # type: ignore[no-untyped-call]


def quantized_script(folder: Path, *, cured: bool = False) -> None:
    """TorchScript of a network in eager-mode int8."""
    import torch

    net = torch.nn.Sequential(torch.nn.Linear(4, 2))
    if not cured:
        net = torch.ao.quantization.quantize_dynamic(net, dtype=torch.qint8)  # type: ignore[no-untyped-call]
    torch.jit.trace(net, torch.ones(1, 4)).save(str(folder / "net.pt"))  # type: ignore[no-untyped-call]


# ------------------------------------------------------------------ ONNX


def _onnx(
    path: Path, nodes: Sequence[NodeProto], inputs: dict[str, tuple[int, Shape]], outputs: dict[str, tuple[int, Shape]],
    weights: dict[str, Any] | None = None, *, opset: int = 18, ir_version: int = 8, domains: Sequence[str] = (),
) -> None:  # fmt: skip
    graph = helper.make_graph(
        list(nodes), "net",
        [helper.make_tensor_value_info(name, *end) for name, end in inputs.items()],
        [helper.make_tensor_value_info(name, *end) for name, end in outputs.items()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (weights or {}).items()],
    )  # fmt: skip
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=ir_version)
    path.write_bytes(model.SerializeToString())


def matmul(folder: Path, *, cured: bool = False) -> None:
    """Names for both axes of the input, though the weights take four columns alone."""
    weights = {"w": np.ones((4, 2), np.float32)}
    _onnx(folder / "net.onnx", [node("MatMul", ["x", "w"], ["y"])], {"x": (FLOAT, ["n", "c"])}, {"y": (FLOAT, ["n", 2])},
          weights)  # fmt: skip


def add_lengths(folder: Path, *, cured: bool = False) -> None:
    weights = {"positions": np.ones((1, 6, 4), np.float32)}
    _onnx(folder / "net.onnx", [node("Add", ["x", "positions"], ["y"])], {"x": (FLOAT, [1, "length", 4])},
          {"y": (FLOAT, [1, "length", 4])}, weights)  # fmt: skip


def gather_inside(folder: Path, *, cured: bool = False) -> None:
    """A table of ten rows, behind an operator that hides it."""
    nodes = [node("Abs", ["ids"], ["rows"]), node("Gather", ["table", "rows"], ["y"])]
    _onnx(folder / "net.onnx", nodes, {"ids": (INT64, [1, 5])}, {"y": (FLOAT, [1, 5, 4])},
          {"table": np.ones((10, 4), np.float32)})  # fmt: skip


def double_kernel(folder: Path, *, cured: bool = False) -> None:
    """An operator in float64, for which onnxruntime has no kernel."""
    kind, dtype = (FLOAT, np.float32) if cured else (DOUBLE, np.float64)
    _onnx(folder / "net.onnx", [node("Conv", ["x", "w"], ["y"])], {"x": (kind, [1, 3, 8, 8])}, {"y": (kind, [1, 4, 6, 6])},
          {"w": np.ones((4, 3, 3, 3), dtype)})  # fmt: skip


def int_kernel(folder: Path, *, cured: bool = False) -> None:
    kind = FLOAT if cured else TensorProto.INT16
    _onnx(folder / "net.onnx", [node("Relu", ["x"], ["y"])], {"x": (kind, [1, 4])}, {"y": (kind, [1, 4])})


def types_differ(folder: Path, *, cured: bool = False) -> None:
    dtype = np.float32 if cured else np.int64
    _onnx(folder / "net.onnx", [node("Add", ["x", "w"], ["y"])], {"x": (FLOAT, [1, 4])}, {"y": (FLOAT, [1, 4])},
          {"w": np.ones(4, dtype)})  # fmt: skip


def type_not_taken(folder: Path, *, cured: bool = False) -> None:
    kind = FLOAT if cured else INT64
    _onnx(folder / "net.onnx", [node("Sigmoid", ["x"], ["y"])], {"x": (kind, [1, 4])}, {"y": (kind, [1, 4])})


def twice_made(folder: Path, *, cured: bool = False) -> None:
    """Two nodes make one value."""
    nodes = [node("Neg", ["x"], ["y"]), node("Abs", ["x"], ["z" if cured else "y"])]
    _onnx(folder / "net.onnx", nodes, {"x": (FLOAT, [1, 4])}, {"y": (FLOAT, [1, 4])})


def shape_contradicts(folder: Path, *, cured: bool = False) -> None:
    weights = {"w": np.ones((4 if cured else 5, 2), np.float32)}
    _onnx(
        folder / "net.onnx",
        [node("MatMul", ["x", "w"], ["y"])],
        {"x": (FLOAT, [1, 4])},
        {"y": (FLOAT, [1, 2])},
        weights,
    )


def old_attribute(folder: Path, *, cured: bool = False) -> None:
    """An attribute that the operator lost at opset 13."""
    made = node("ReduceSum", ["x"], ["y"], axes=[1])
    _onnx(
        folder / "net.onnx", [made], {"x": (FLOAT, [1, 4])}, {"y": (FLOAT, [1, 1])}, opset=11 if cured else 13
    )


def much_newer(folder: Path, *, cured: bool = False) -> None:
    """Of an IR version and opset that the installed onnx does not know either."""
    version = {"opset": 18, "ir_version": 8} if cured else {"opset": 99, "ir_version": 99}
    _onnx(folder / "net.onnx", [node("Neg", ["x"], ["y"])], {"x": (FLOAT, [1, 4])}, {"y": (FLOAT, [1, 4])},
          opset=version["opset"], ir_version=version["ir_version"])  # fmt: skip


def random_onnx(folder: Path, *, cured: bool = False) -> None:
    nodes = [node("RandomNormalLike", ["x"], ["r"]), node("Add", ["x", "r"], ["y"])]
    if cured:
        nodes = [node("Add", ["x", "x"], ["y"])]
    _onnx(folder / "net.onnx", nodes, {"x": (FLOAT, [1, 4])}, {"y": (FLOAT, [1, 4])})


# ------------------------------------------------------------------ Keras


def _keras(folder: Path, layers: Sequence[Any], shape: Sequence[int | None] = (4,), **more: Any) -> Any:
    import keras

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input(tuple(shape), name="x", **more), *layers])
    model.save(folder / "net.keras")
    return model


def _rewritten(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """A `.keras` file with another configuration."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def keras_newer(folder: Path, *, cured: bool = False) -> None:
    """As a later Keras would write: a layer has an argument that the installed one does not know."""
    import keras

    _keras(folder, [keras.layers.Dense(2)])
    if not cured:
        _rewritten(folder / "net.keras", lambda config: _dense(config).update(sparsity="2:4"))


def keras_other_weights(folder: Path, *, cured: bool = False) -> None:
    """Configuration and weights of two different networks in one file."""
    import keras

    _keras(folder, [keras.layers.Dense(2)])
    if not cured:
        _rewritten(folder / "net.keras", lambda config: _dense(config).update(units=3))


def _dense(config: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = config["config"]["layers"][1]["config"]
    return found


# ------------------------------------------------------------------ TensorFlow


def _saved(folder: Path, function: Callable[..., Any], *specs: Any, **attributes: Any) -> None:
    import tensorflow as tf

    module = tf.Module()
    for name, value in attributes.items():
        setattr(module, name, value)
    module.serve = tf.function(function, input_signature=specs)  # type: ignore[attr-defined]
    tf.saved_model.save(module, str(folder / "saved"), signatures=module.serve)  # type: ignore[attr-defined]


def _x(*shape: int | None, dtype: str = "float32") -> Any:
    import tensorflow as tf

    return tf.TensorSpec(shape, dtype, name="x")


def saved_betainc(folder: Path, *, cured: bool = False) -> None:
    """An operator without an ONNX form, behind one that has one."""
    import tensorflow as tf

    if cured:
        _saved(folder, lambda x: {"y": tf.abs(x)}, _x(1, 4))
    else:
        _saved(folder, lambda x: {"y": tf.math.betainc(tf.abs(x), tf.abs(x), 0.5)}, _x(1, 4))


def saved_strings(folder: Path, *, cured: bool = False) -> None:
    import tensorflow as tf

    _saved(
        folder,
        lambda x: {"y": tf.strings.length(tf.strings.as_string(x))} if not cured else {"y": x + 1},
        _x(1, 4),
    )


def saved_loop(folder: Path, *, cured: bool = False) -> None:
    """A loop that collects tensors of growing length."""
    import tensorflow as tf

    def grow(x: Any) -> Any:
        found = tf.TensorArray(tf.float32, size=0, dynamic_size=True, infer_shape=False)
        for index in tf.range(tf.shape(x)[1]):
            found = found.write(index, x[:, : index + 1])
        return {"y": found.concat()}

    _saved(folder, (lambda x: {"y": tf.cumsum(x, 1)}) if cured else tf.autograph.to_graph(grow), _x(2, 4))


def saved_lengths(folder: Path, *, cured: bool = False) -> None:
    """Positions of one length, behind a signature of any."""
    import tensorflow as tf

    positions = tf.ones((1, 6, 4))
    _saved(folder, lambda x: {"y": x + positions}, _x(1, None, 4))


def saved_without_variables(folder: Path, *, cured: bool = False) -> None:
    """A folder that was copied without its `variables`."""
    import tensorflow as tf

    w = tf.Variable(tf.ones((4, 2)))
    _saved(folder, lambda x: {"y": x @ w}, _x(1, 4), w=w)
    if not cured:
        shutil.rmtree(folder / "saved" / "variables")


def saved_foreign(folder: Path, *, cured: bool = False) -> None:
    """An operator of a library that is not loaded, such as tensorflow_text's."""
    saved_betainc(folder, cured=cured)
    path = folder / "saved" / "saved_model.pb"
    if not cured:
        path.write_bytes(path.read_bytes().replace(b"Betainc", b"Wordops"))


def frozen_pieces(folder: Path, *, cured: bool = False) -> None:
    """A GraphDef that names a node which it does not have."""
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, (1, 4), name="x")
        tf.abs(tf.negative(x, name="inner"), name="y")
    graph_def = graph.as_graph_def()
    if not cured:
        del graph_def.node[1]
    (folder / "net.pb").write_bytes(graph_def.SerializeToString())


def unfrozen(folder: Path, *, cured: bool = False) -> None:
    """A GraphDef whose variables are elsewhere."""
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, (1, 4), name="x")
        tf.matmul(x, tf.raw_ops.VariableV2(shape=[4, 2], dtype=tf.float32, name="w"), name="y")
    (folder / "net.pb").write_bytes(graph.as_graph_def().SerializeToString())


# ------------------------------------------------------------------ TensorFlow Lite


def _tflite(path: Path, function: Callable[..., Any], *specs: Any, select: bool = False) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.serve = tf.function(function, input_signature=specs)  # type: ignore[attr-defined]
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [module.serve.get_concrete_function()], module
    )  # type: ignore[attr-defined]
    if select:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    path.write_bytes(converter.convert())


def tflite_custom(folder: Path, *, cured: bool = False) -> None:
    """A custom operator, behind one that every runtime has."""
    _tflite_ending(folder, "Sinh")


def tflite_flex(folder: Path, *, cured: bool = False) -> None:
    """As TensorFlow writes with SELECT_TF_OPS."""
    _tflite_ending(folder, "" if cured else "FlexBetainc")


def _tflite_ending(folder: Path, custom: str) -> None:
    """``y = custom(abs(x))``, of ``abs`` alone where none is named."""
    graph = TfliteGraph()
    x, middle, y = (graph.tensor(name, [1, 4]) for name in ("x", "middle", "y"))
    graph.operator("ABS", [x], [middle if custom else y])
    if custom:
        graph.operator("CUSTOM", [middle], [y], custom=custom)
    graph.write(folder / "net.tflite", [x], [y])


def tflite_newer(folder: Path, *, cured: bool = False) -> None:
    """An operator of a version that the installed runtime does not have."""
    import tensorflow as tf

    w = np.ones((4, 2), np.float32)
    _tflite(folder / "net.tflite", lambda x: tf.matmul(x, w), _x(1, 4))
    if not cured:
        _with_codes(folder / "net.tflite", version=99)


def tflite_beyond(folder: Path, *, cured: bool = False) -> None:
    """An operator by a number that the installed runtime does not know."""
    import tensorflow as tf

    _tflite(folder / "net.tflite", tf.abs, _x(1, 4))
    if not cured:
        _with_codes(folder / "net.tflite", builtinCode=400, deprecatedBuiltinCode=127)


def _with_codes(path: Path, **fields: int) -> None:
    import flatbuffers  # type: ignore[import-untyped]
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    for name, value in fields.items():
        setattr(model.operatorCodes[0], name, value)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))


def tflite_lengths(folder: Path, *, cured: bool = False) -> None:
    positions = np.ones((1, 6, 4), np.float32)
    _tflite(folder / "net.tflite", lambda x: x + positions, _x(1, None, 4))


def tflite_gather(folder: Path, *, cured: bool = False) -> None:
    import tensorflow as tf

    table = np.ones((10, 4), np.float32)
    _tflite(folder / "net.tflite", lambda x: tf.gather(table, x), _x(1, 5, dtype="int32"))
