"""Models of the caller's process: what is made of them, that they stay as they are, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import mlconv
from mlconv.errors import (
    BadInputOption,
    BadUsage,
    KeepsState,
    OptionNotAccepted,
    ShapesNeeded,
    SourceDoesNotRun,
    UnknownInput,
)

if importlib.util.find_spec("torch"):
    import torch

    class Net(torch.nn.Module):
        """Everything that a conversion could disturb: modes, a buffer, parameters, a hook."""

        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(6)
            self.drop = torch.nn.Dropout(0.5)
            self.out = torch.nn.Linear(6, 3)

        def forward(self, x, scale=1.0):
            return self.out(self.drop(self.norm(x))) * scale

    class Pair(torch.nn.Module):
        def forward(self, batch, states, flip=False):
            total = batch["left"] - batch["right"] + states[0] * states[1]
            return {"total": -total if flip else total}

    class Tokens(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(40, 4)

        def forward(self, ids, lengths):
            if lengths.shape[0] != ids.shape[0]:
                raise ValueError("as many lengths as rows")
            return self.table(ids).sum(1) / lengths[:, None]


def names_of(artifact: Path) -> list[str]:
    return [value.name for value in onnx.load(artifact).graph.input]


def run(path: Path, **feeds: Any) -> list[Any]:
    import onnxruntime

    return list(onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feeds))


# ------------------------------------------------------------------ PyTorch

pytorch = pytest.mark.framework("torch", "onnxscript")


@pytorch
def test_a_module_of_this_process_becomes_an_artifact_that_computes_the_same(tmp_path: Path) -> None:
    net, x = Net().eval(), torch.randn(4, 6)
    made = mlconv.to_onnx(net, tmp_path / "net.onnx", example=(x,))
    assert made.ok
    assert (made.source.ref, made.source.format, made.source.weights) == ("<Net>", "torch-module", "live")
    (given,) = run(tmp_path / "net.onnx", x=x.numpy())
    np.testing.assert_allclose(given, net(x).detach().numpy(), atol=1e-5)
    assert made.checks["parity"]["reference"] == "torch-cpu"
    assert "the first sample is the example that was given" in made.checks["parity"]["notes"]


@pytorch
def test_the_record_names_the_parameters_and_no_file(tmp_path: Path) -> None:
    net = Net()
    mlconv.to_onnx(net, tmp_path / "a.onnx", example=torch.randn(1, 6))
    first = json.loads((tmp_path / "a.onnx.mlconv.json").read_text())["source"]
    with torch.no_grad():
        net.out.bias.add_(1)
    mlconv.to_onnx(net, tmp_path / "a.onnx", example=torch.randn(1, 6))
    second = json.loads((tmp_path / "a.onnx.mlconv.json").read_text())["source"]
    assert (first["sha256"], first["bytes"], first["weights"]) == (None, None, "live")
    assert len(first["weights_sha256"]) == 64
    assert first["weights_sha256"] != second["weights_sha256"]


@pytorch
def test_the_module_and_all_random_generators_are_as_they_were(tmp_path: Path) -> None:
    net, x = Net(), torch.randn(2, 6)
    net.drop.eval()
    seen: list[int] = []
    net.register_forward_hook(lambda *_: seen.append(1))
    net(x).sum().backward()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert net.out.weight.grad is not None
    gradient = net.out.weight.grad.clone()
    states = torch.get_rng_state(), random.getstate()
    numpys = np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002
    fused = torch.backends.mha.get_fastpath_enabled()
    mlconv.to_onnx(net, tmp_path / "net.onnx", example=x)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert torch.equal(torch.as_tensor(net.out.weight.grad), gradient)
    assert [part.training for part in net.modules()] == [True, True, False, True]
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state(legacy=False)["state"]["key"], numpys)  # noqa: NPY002
    assert torch.backends.mha.get_fastpath_enabled() == fused
    assert torch.is_grad_enabled()


@pytorch
def test_a_module_in_training_mode_is_converted_as_in_eval_mode_and_that_is_told(tmp_path: Path) -> None:
    net, x = Net(), torch.randn(5, 6)
    made = mlconv.to_onnx(net, tmp_path / "net.onnx", example=x)
    (told,) = made.warnings
    assert "training mode" in told
    assert "`BatchNorm1d`, `Dropout`" in told
    (given,) = run(tmp_path / "net.onnx", x=x.numpy())
    np.testing.assert_allclose(given, net.eval()(x).detach().numpy(), atol=1e-5)


@pytorch
def test_a_module_without_two_modes_gives_no_warning(tmp_path: Path) -> None:
    made = mlconv.to_onnx(torch.nn.Linear(2, 2), tmp_path / "a.onnx", example=torch.randn(1, 2))
    assert made.warnings == ()


@pytorch
def test_shapes_are_those_of_the_example_and_named_axes_are_dynamic(tmp_path: Path) -> None:
    net, x = Net().eval(), torch.randn(3, 6)
    fixed = mlconv.to_onnx(net, tmp_path / "fixed.onnx", example=x)
    free = mlconv.to_onnx(net, tmp_path / "free.onnx", example=x, inputs=["x=batch,6"])
    assert [spec.shape for spec in fixed.artifact.inputs] == [(3, 6)]
    assert [spec.shape for spec in (*free.artifact.inputs, *free.artifact.outputs)] == [
        ("batch", 6),
        ("batch", 3),
    ]
    (given,) = run(tmp_path / "free.onnx", x=np.ones((9, 6), np.float32))
    np.testing.assert_allclose(given, net(torch.ones(9, 6)).detach().numpy(), atol=1e-5)


@pytorch
def test_containers_are_inputs_by_their_keys_and_numbers_are_constants(tmp_path: Path) -> None:
    a, b, c, d = (torch.randn(3) for _ in range(4))
    made = mlconv.to_onnx(Pair(), tmp_path / "p.onnx", example=({"left": a, "right": b}, (c, d), True))
    assert names_of(tmp_path / "p.onnx") == ["batch.left", "batch.right", "states.0", "states.1"]
    (given,) = run(tmp_path / "p.onnx", **{
        "batch.left": a.numpy(), "batch.right": b.numpy(), "states.0": c.numpy(), "states.1": d.numpy()
    })  # fmt: skip
    np.testing.assert_allclose(given, -(a - b + c * d).numpy(), atol=1e-6)
    assert made.warnings == ("`flip` is True in the artifact, and no input",)


@pytorch
def test_a_mapping_goes_by_name_and_the_artifact_has_the_order_of_forward(tmp_path: Path) -> None:
    example = {"lengths": np.array([2.0, 3.0], np.float32), "ids": np.array([[1, 39], [0, 5]])}
    mlconv.to_onnx(Tokens(), tmp_path / "t.onnx", example=example)
    assert names_of(tmp_path / "t.onnx") == ["ids", "lengths"]


@pytorch
def test_the_same_network_trained_further_replaces_its_artifact_and_another_one_does_not(
    tmp_path: Path,
) -> None:
    path, x = tmp_path / "net.onnx", torch.randn(1, 4)
    mlconv.to_onnx(torch.nn.Sequential(torch.nn.Linear(4, 2)), path, example=x)
    mlconv.to_onnx(torch.nn.Sequential(torch.nn.Linear(4, 2)), path, example=x)
    with pytest.raises(mlconv.MlconvError, match="exists") as caught:
        mlconv.to_onnx(torch.nn.Sequential(torch.nn.Linear(4, 3)), path, example=x)
    assert caught.value.id == "MLC002"
    assert "force=True" in str(caught.value)


@pytorch
def test_without_a_path_the_artifact_is_called_after_the_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert mlconv.to_onnx(Net(), example=torch.randn(1, 6)).artifact.path == "Net.onnx"
    assert {path.name for path in tmp_path.iterdir()} == {"Net.onnx", "Net.onnx.mlconv.json"}


@pytorch
def test_half_precision_is_widened_in_the_copy_alone(tmp_path: Path) -> None:
    net = torch.nn.Linear(4, 2).half()
    made = mlconv.to_onnx(net, tmp_path / "h.onnx", example=torch.randn(1, 4).half())
    assert net.weight.dtype == torch.float16
    assert made.artifact.inputs[0].dtype == "float32"
    assert "float16 and were converted to float32" in made.warnings[0]


@pytorch
@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
@pytest.mark.parametrize("wrap", ["script", "compile", "parallel"])
def test_a_module_is_converted_under_its_wrappers(tmp_path: Path, wrap: str) -> None:
    net, x = torch.nn.Linear(4, 2), torch.randn(1, 4)
    wrappers: dict[str, Any] = {
        "script": torch.jit.script,
        "compile": torch.compile,
        "parallel": torch.nn.DataParallel,
    }
    wrapped = wrappers[wrap](net)
    made = mlconv.to_onnx(wrapped, tmp_path / "a.onnx", example=x)
    assert made.source.ref == "<Linear>"
    (given,) = run(tmp_path / "a.onnx", input=x.numpy())
    np.testing.assert_allclose(given, net(x).detach().numpy(), atol=1e-5)


@pytorch
def test_an_exported_program_is_a_source_under_its_own_name(tmp_path: Path) -> None:
    program = torch.export.export(torch.nn.Linear(4, 2).eval(), (torch.randn(2, 4),))
    made = mlconv.to_onnx(program, tmp_path / "a.onnx")
    assert (made.ok, made.source.ref) == (True, "<ExportedProgram>")
    with pytest.raises(BadUsage, match="takes no example"):
        mlconv.to_onnx(program, tmp_path / "b.onnx", example=torch.randn(2, 4))


@pytorch
@pytest.mark.parametrize(
    ("example", "kind", "words"),
    [
        (None, ShapesNeeded, "does not tell the shape of `x`"),
        ((), ShapesNeeded, "leaves out `x`"),
        ({"y": 1}, UnknownInput, "no input `y`; it has `x`, `scale`"),
        ((1.0,), ShapesNeeded, "holds no tensor"),
        ((1, 2, 3), BadUsage, "the example has 3 values, and forward of `<Net>` takes 2"),
    ],
)
def test_an_example_that_forward_does_not_take_says_what_it_takes(
    tmp_path: Path, example: Any, kind: type[mlconv.MlconvError], words: str
) -> None:
    with pytest.raises(kind, match=words) as caught:
        mlconv.to_onnx(Net(), tmp_path / "a.onnx", example=example)
    assert "example=" in caught.value.fix
    assert list(tmp_path.iterdir()) == []


@pytorch
def test_one_name_for_axes_that_differ_in_the_example_is_refused(tmp_path: Path) -> None:
    example = (torch.zeros(2, 3, dtype=torch.int64), torch.ones(2))
    with pytest.raises(BadInputOption, match="the axis `n` is 2 and 3"):
        mlconv.to_onnx(Tokens(), tmp_path / "a.onnx", example=example, inputs=["ids=n,n", "lengths=n"])


@pytorch
def test_what_cannot_be_copied_is_shared_and_what_forward_keeps_is_kept_in_the_copy(tmp_path: Path) -> None:
    class Keeps(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lock, self.last, self.seen = threading.Lock(), None, []

        def forward(self, x):
            with self.lock:
                self.last = x
                self.seen.append(x)
            return 2 * x

    net = Keeps()
    assert mlconv.to_onnx(net, tmp_path / "a.onnx", example=torch.randn(1, 2)).ok
    assert (net.last, net.seen) == (None, [])


@pytorch
def test_a_state_that_forward_writes_is_refused_and_not_written(tmp_path: Path) -> None:
    class Counts(torch.nn.Module):
        runs: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("runs", torch.zeros(()))

        def forward(self, x):
            self.runs += 1
            return x + self.runs

    net = Counts()
    with pytest.raises(mlconv.MlconvError, match="`runs`"):
        mlconv.to_onnx(net, tmp_path / "a.onnx", example=torch.randn(1, 2))
    assert net.runs == 0


@pytorch
def test_a_layer_that_merges_its_weights_in_eval_mode_leaves_the_callers_alone(tmp_path: Path) -> None:
    class Merges(torch.nn.Linear):
        def __init__(self) -> None:
            super().__init__(4, 4)
            self.extra, self.merged = torch.nn.Parameter(torch.ones(4, 4)), False

        def train(self, mode: bool = True):
            if mode == self.merged:
                self.weight.data += -self.extra if mode else self.extra
                self.merged = not mode
            return super().train(mode)

        def forward(self, x):
            y = super().forward(x)
            return y if self.merged else y + x @ self.extra.T

    net: Any = torch.nn.Sequential(Merges())
    x = torch.randn(3, 4)
    weight, wanted = net[0].weight.detach().clone(), net(x).detach().numpy()
    for name in ("first.onnx", "second.onnx"):
        mlconv.to_onnx(net, tmp_path / name, example=x)
        assert torch.equal(net[0].weight, weight)
        np.testing.assert_allclose(run(tmp_path / name, input=x.numpy())[0], wanted, atol=1e-4)


@pytorch
def test_a_parameter_that_forward_sets_is_refused_and_not_set(tmp_path: Path) -> None:
    class Sets(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shift, self.done = torch.nn.Parameter(torch.zeros(4)), False

        def forward(self, x):
            if not self.done:
                self.shift.data.copy_(-x.mean(0))
                self.done = True
            return x + self.shift

    net: Any = Sets()
    with pytest.raises(KeepsState, match="1 parameters of the module: `shift`"):
        mlconv.to_onnx(net, tmp_path / "a.onnx", example=torch.randn(3, 4) + 5)
    assert (net.done, net.shift.abs().max()) == (False, 0)


@pytorch
@pytest.mark.parametrize("mode", ["forward", "hook"])
def test_a_patch_that_holds_the_module_is_refused_as_its_copy_computes_something_else(
    tmp_path: Path, mode: str
) -> None:
    net: Any = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
    net(torch.randn(64, 4) * 3 + 1)
    original = net.forward
    if mode == "forward":
        net.forward = lambda x: original(x) * 2
    else:
        net.register_forward_hook(lambda _module, _given, found: found * 5 if net.training else found)
    mean = net[1].running_mean.clone()
    with pytest.raises(SourceDoesNotRun, match="computes something else than the module itself"):
        mlconv.to_onnx(net, tmp_path / "a.onnx", example=torch.randn(3, 4))
    assert torch.equal(net[1].running_mean, mean)
    assert net.training


@pytorch
def test_an_attribute_that_is_called_like_a_compiled_modules_is_no_wrapper(tmp_path: Path) -> None:
    class Own(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self._orig_mod = torch.nn.Linear(4, 4)

        def forward(self, x):
            return self._orig_mod(x) * 3

    net, x = Own(), torch.randn(2, 4)
    mlconv.to_onnx(net, tmp_path / "a.onnx", example=x)
    np.testing.assert_allclose(run(tmp_path / "a.onnx", x=x.numpy())[0], net(x).detach().numpy(), atol=1e-5)


@pytorch
def test_hooks_of_a_wrapper_are_refused(tmp_path: Path) -> None:
    net = torch.nn.DataParallel(torch.nn.Linear(4, 2))
    net.register_forward_hook(lambda _module, _given, found: found * 3)
    with pytest.raises(BadUsage, match="around `Linear` has hooks"):
        mlconv.to_onnx(net, tmp_path / "a.onnx", example=torch.randn(1, 4))


@pytorch
def test_autocast_of_the_caller_is_told(tmp_path: Path) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made = mlconv.to_onnx(torch.nn.Linear(4, 2), tmp_path / "a.onnx", example=torch.randn(1, 4))
    assert "autocast to bfloat16 is on" in made.warnings[0]


@pytorch
def test_an_example_of_another_dtype_is_answered_with_what_cures(tmp_path: Path) -> None:
    net, example = torch.nn.Linear(4, 2), np.ones((1, 4))
    with pytest.raises(mlconv.MlconvError, match=r"hint: inputs=\['input=1,4:float32'\]"):
        mlconv.to_onnx(net, tmp_path / "a.onnx", example=example)
    assert mlconv.to_onnx(net, tmp_path / "a.onnx", example=example, inputs=["input=1,4:float32"]).ok


@pytorch
def test_a_module_without_values_is_refused(tmp_path: Path) -> None:
    with torch.device("meta"):
        empty = torch.nn.Linear(2, 2)
    for net, words in ((empty, "on the meta device"), (torch.nn.LazyLinear(2), "has no shape yet")):
        with pytest.raises(BadUsage, match=words):
            mlconv.to_onnx(net, tmp_path / "a.onnx", example=torch.randn(1, 2))


@pytorch
def test_what_frameworks_print_goes_to_a_log_and_what_other_threads_print_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLCONV_CACHE_DIR", str(tmp_path / "cache"))
    other = []

    class Loud(torch.nn.Module):
        def forward(self, x):  # noqa: ARG002
            print("from the module")  # noqa: T201
            if not other:
                other.append(threading.Thread(target=print, args=("from elsewhere",)))
                other[0].start()
                other[0].join()
            raise ValueError("as it happens")

    with pytest.raises(mlconv.MlconvError, match="as it happens") as caught:
        mlconv.to_onnx(Loud(), tmp_path / "a.onnx", example=torch.randn(1, 2))
    assert capsys.readouterr().out == "from elsewhere\n"
    assert caught.value.log is None or "from the module" in Path(caught.value.log).read_text()


@pytorch
def test_a_live_module_is_checked_and_compared_on_either_side(tmp_path: Path) -> None:
    net, x = Net().eval(), torch.randn(2, 6)
    path = tmp_path / "net.onnx"
    mlconv.to_onnx(net, path, example=x)
    assert [(line.name, line.ok) for line in mlconv.check(net, example=x).checks] == [
        ("load", True),
        ("run", True),
    ]
    assert mlconv.compare(net, path, example=x).ok
    assert mlconv.compare(path, net, example=x).ok
    with torch.no_grad():
        net.out.bias.add_(5)
    moved = mlconv.compare(net, path, example=x)
    assert not moved.ok
    with pytest.raises(mlconv.MlconvError, match=r"MLC310.*`output` differs from the reference"):
        moved.raise_for_verdict()


@pytorch
def test_it_works_from_a_thread_and_for_classes_of_main(tmp_path: Path) -> None:
    script = """
import threading, torch, mlconv
class Net(torch.nn.Module):
    def forward(self, x): return x.relu() * 3
made = []
thread = threading.Thread(target=lambda: made.append(mlconv.to_onnx(Net(), example=torch.randn(2, 3))))
thread.start(); thread.join()
print(repr(made[0]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("<Conversion ok: <Net> -> Net.onnx; structure ok")
    assert done.stderr == ""


# ------------------------------------------------------------------ Keras

tensorflow = pytest.mark.framework("tensorflow", "keras", "tf2onnx")


def own_model(keras: Any) -> Any:
    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(3)
            self.table = keras.layers.Embedding(12, 3)

        def call(self, x, ids, training=None):  # noqa: ARG002
            return {"y": self.dense(x) + self.table(ids)}

    return Own()


@tensorflow
def test_a_keras_model_with_a_layer_of_this_process_is_converted_and_not_changed(tmp_path: Path) -> None:
    import keras

    class Triple(keras.layers.Layer):
        def call(self, x):
            return 3 * x

    model = keras.Sequential(
        [keras.Input((4,), name="x"), Triple(), keras.layers.Dropout(0.5), keras.layers.Dense(2)]
    )
    before, nodes = [w.copy() for w in model.get_weights()], len(model._inbound_nodes)
    made = mlconv.to_onnx(model, tmp_path / "m.onnx", example=np.ones((1, 4), np.float32))
    assert made.ok
    assert [spec.shape for spec in made.artifact.inputs] == [("batch", 4)]
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert len(model._inbound_nodes) == nodes
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    (given,) = run(tmp_path / "m.onnx", x=x)
    np.testing.assert_allclose(given, model.predict(x, verbose=0), atol=1e-5)


@tensorflow
def test_a_keras_model_of_a_class_of_its_own_takes_its_shapes_from_the_example(tmp_path: Path) -> None:
    import keras

    model = own_model(keras)
    x, ids = np.ones((2, 4), np.float32), np.array([3, 11])
    fixed = mlconv.to_onnx(model, tmp_path / "a.onnx", example=(x, ids))
    free = mlconv.to_onnx(model, tmp_path / "b.onnx", example={"ids": ids, "x": x}, inputs=["x=n,4", "ids=n"])
    assert [(spec.name, spec.shape) for spec in fixed.artifact.inputs] == [("x", (2, 4)), ("ids", (2,))]
    assert [(spec.name, spec.shape) for spec in free.artifact.inputs] == [("x", ("n", 4)), ("ids", ("n",))]
    (given,) = run(tmp_path / "b.onnx", x=np.ones((7, 4), np.float32), ids=np.arange(7))
    np.testing.assert_allclose(given, model(np.ones((7, 4), np.float32), np.arange(7))["y"], atol=1e-5)
    assert mlconv.compare(model, tmp_path / "a.onnx", example=(x, ids)).ok


@tensorflow
def test_a_keras_model_that_does_not_know_its_inputs_asks_for_an_example(tmp_path: Path) -> None:
    import keras

    with pytest.raises(ShapesNeeded, match="does not tell the shapes of its inputs") as caught:
        mlconv.to_onnx(own_model(keras), tmp_path / "a.onnx")
    assert caught.value.fix == "example=(x, ids,) with arrays as call takes them"


@tensorflow
@pytest.mark.framework("tf_keras")
def test_a_keras_2_model_is_converted_by_its_own_keras(tmp_path: Path) -> None:
    script = """
import os
os.environ["TF_USE_LEGACY_KERAS"] = "1"
import numpy as np, tf_keras, mlconv
model = tf_keras.Sequential([tf_keras.Input((4,), name="x"), tf_keras.layers.Dense(2)], name="small")
print(repr(mlconv.to_onnx(model, example=np.ones((1, 4), "float32"))))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("<Conversion ok: <small> -> small.onnx")


@tensorflow
def test_a_model_on_another_backend_says_how_to_save_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(SourceDoesNotRun, match="jax backend") as caught:
        mlconv.to_onnx(model, tmp_path / "a.onnx")
    assert caught.value.fix.startswith("model.save('model.keras')")


# ------------------------------------------------------------------ ONNX, and what is no model


def linear(name: str) -> onnx.ModelProto:
    x, y = (
        onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, s]) for n, s in (("x", 4), ("y", 2))
    )
    w = onnx.numpy_helper.from_array(np.ones((4, 2), np.float32), "w")
    graph = onnx.helper.make_graph([onnx.helper.make_node("MatMul", ["x", "w"], ["y"])], name, [x], [y], [w])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def test_an_onnx_model_in_memory_is_converted_checked_and_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = linear("../a net")
    before = model.SerializeToString()
    made = mlconv.to_onnx(model, opset=20)
    assert (made.source.ref, made.artifact.path, made.artifact.opset) == ("<a_net>", "a_net.onnx", 20)
    assert model.SerializeToString() == before
    assert mlconv.check(model).ref == "<a_net>"
    assert mlconv.compare(model, "a_net.onnx").ok


@pytest.mark.parametrize(
    ("thing", "words", "fix"),
    [
        (b"\x08", "bytes is no source", "write the bytes to a file, and give its path"),
        ({"w": 1}, "a mapping with 1 keys", "net.load_state_dict(it)"),
        (dict, "the class dict", "give an instance: dict()"),
        (len, "is no source", "wrap it in a torch.nn.Module"),
        (7, "int is no source", "give a path"),
    ],
)
def test_what_is_no_model_is_told_what_to_do_with_it(thing: Any, words: str, fix: str) -> None:
    with pytest.raises(BadUsage, match=words) as caught:
        mlconv.to_onnx(thing)
    assert fix in caught.value.fix


def test_options_of_files_mean_nothing_to_a_live_model() -> None:
    with pytest.raises(OptionNotAccepted, match="`weights`, `trust_pickle` means nothing"):
        mlconv.to_onnx(linear("net"), weights="w.safetensors", trust_pickle=True)


def test_an_example_of_a_file_is_refused_and_inspect_reads_files_alone(tmp_path: Path) -> None:
    onnx.save(linear("net"), tmp_path / "net.onnx")
    for call in (mlconv.to_onnx, mlconv.check):
        with pytest.raises(BadUsage, match="example is for live models"):
            call(tmp_path / "net.onnx", example=np.ones(1))
    with pytest.raises(BadUsage, match="inspect reads files"):
        mlconv.inspect(linear("net"))  # type: ignore[arg-type]
