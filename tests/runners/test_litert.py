"""LiteRT: dynamic sizes, signatures, fresh state, and how far its own kernels lie apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlconv.convert.job import Options
from mlconv.errors import UnsupportedOperator
from mlconv.formats import ModelFile

pytestmark = pytest.mark.filterwarnings("ignore")  # LiteRT warns of its own future

TINY = "mlcommons_tiny/benchmark__training__image_classification__trained_models__pretrainedResnet"
LSTM = "tensorflow_tflite-micro/tensorflow__lite__micro__examples__mnist_lstm__trained_lstm"
SIGNATURES = "google-ai-edge_LiteRT/tflite__testdata__multi_signatures.bin"
SINH = "google-ai-edge_LiteRT/tflite__testdata__custom_sinh.bin"


@pytest.fixture(autouse=True)
def _litert(needs: Any) -> None:
    needs("ai_edge_litert")


def _open(path: Path, **options: Any) -> Any:
    from mlconv.runners.litert import open_runner

    return open_runner(ModelFile(path.name, path, "tflite"), Options(**options))


def _random(runner: Any, batch: int) -> dict[str, Any]:
    spec = runner.inputs[0]
    shape = (batch, *spec.shape[1:])
    rng = np.random.default_rng(batch)
    if spec.dtype == "int8":
        return {spec.name: rng.integers(-128, 128, shape).astype(np.int8)}
    return {spec.name: rng.random(shape).astype(np.float32)}


def test_a_dynamic_batch_takes_any_size(models: Path) -> None:
    runner = _open(models / f"{TINY}.tflite")
    assert runner.name == "litert-cpu"
    assert [runner.run(_random(runner, batch))["Identity"].shape for batch in (3, 1, 2)] == [
        (3, 10),
        (1, 10),
        (2, 10),
    ]


def test_a_batch_answers_as_its_rows_do_alone(models: Path) -> None:
    runner = _open(models / f"{TINY}.tflite")
    fed = _random(runner, 3)
    whole = runner.run(fed)["Identity"]
    rows = [runner.run({"input_1": fed["input_1"][i : i + 1]})["Identity"] for i in range(3)]
    np.testing.assert_allclose(whole, np.concatenate(rows), atol=1e-6)


def test_a_float_model_has_no_spread(models: Path) -> None:
    runner = _open(models / f"{TINY}.tflite")
    assert runner.spread(_random(runner, 1)) is None


def test_the_spread_is_the_distance_of_the_default_from_the_built_in_kernels(models: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    path = models / f"{TINY}_quant.tflite"
    runner = _open(path)
    fed = _random(runner, 1)
    answers = []
    for resolver in (OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES):
        interpreter = Interpreter(model_path=str(path), experimental_op_resolver_type=resolver)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], next(iter(fed.values())))
        interpreter.invoke()
        answers.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).astype(int))
    told = runner.spread(fed)
    assert told is not None
    np.testing.assert_array_equal(next(iter(told.values())), np.abs(answers[0] - answers[1]))


@pytest.mark.parametrize("suffix", ["", "_int8"])
def test_state_does_not_outlive_a_run(models: Path, suffix: str) -> None:
    runner = _open(models / f"{LSTM}{suffix}.tflite")
    fed, other = _random(runner, 1), _random(runner, 2)
    first = next(iter(runner.run(fed).values()))
    runner.run({name: array[:1] for name, array in other.items()})
    np.testing.assert_array_equal(next(iter(runner.run(fed).values())), first)


def test_a_signature_s_own_names_are_used(models: Path) -> None:
    runner = _open(models / f"{LSTM}.tflite")
    assert not any(
        "serving_default" in spec.name or ":" in spec.name for spec in (*runner.inputs, *runner.outputs)
    )


@pytest.mark.parametrize(("signature", "answer"), [("add", [3.0, 4.0]), ("sub", [-2.0, -1.0])])
def test_each_signature_runs_its_own_subgraph(models: Path, signature: str, answer: list[float]) -> None:
    runner = _open(models / SIGNATURES, signature=signature)
    np.testing.assert_allclose(runner.run({"x": np.array([1, 2], np.float32)})["output_0"], answer)


def test_a_quantized_input_tells_scale_and_zero_point(models: Path) -> None:
    (spec,) = _open(models / f"{TINY}_quant.tflite").inputs
    assert (spec.quantization.scale, spec.quantization.zero_point) == (1.0, -128)


def test_a_custom_operator_does_not_run(models: Path) -> None:
    with pytest.raises(UnsupportedOperator, match="has the custom operator `Sinh`") as raised:
        _open(models / SINH)
    assert "custom op: Sinh" in str(raised.value.why)


def test_without_ai_edge_litert_another_runtime_is_taken(
    models: Path, monkeypatch: pytest.MonkeyPatch, needs: Any
) -> None:
    needs("tensorflow")
    import importlib

    real = importlib.import_module

    def without_litert(name: str) -> Any:
        if name.startswith(("ai_edge_litert", "tflite_runtime")):
            raise ImportError(name)
        return real(name)

    monkeypatch.setattr("mlconv.runners.litert.importlib.import_module", without_litert)
    runner = _open(models / f"{TINY}.tflite")
    assert runner.run(_random(runner, 1))["Identity"].shape == (1, 10)


def test_built_in_kernels_that_end_their_process_mean_no_spread_and_no_more(models: Path) -> None:
    runner = _open(models / f"{TINY}_quant.tflite")
    fed = _random(runner, 1)
    assert runner.spread(fed) is not None
    runner._builtin._process.kill()
    runner._builtin._process.wait()
    assert runner.spread(fed) is None
    assert runner.spread(fed) is None
    assert runner.run(fed)


def test_built_in_kernels_that_refuse_the_model_mean_no_spread(models: Path, tmp_path: Path) -> None:
    from mlconv.runners.litert import BuiltinKernels
    from mlconv.runners.litert_child import Call

    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"\0\0\0\0TFL3" + b"\xff" * 64)
    kernels = BuiltinKernels("ai_edge_litert.interpreter", broken, Call([], []))
    assert kernels.run([]) is None


def test_the_process_of_the_built_in_kernels_ends_with_the_runner(models: Path) -> None:
    runner = _open(models / f"{TINY}_quant.tflite")
    runner.spread(_random(runner, 1))
    process, folder = runner._builtin._process, runner._builtin._folder
    runner.close()
    assert process.poll() is not None
    assert not folder.exists()


@pytest.mark.parametrize("suffix", ["", "_quant"])
def test_the_kernels_that_answer_are_told(models: Path, suffix: str) -> None:
    assert _open(models / f"{TINY}{suffix}.tflite").kernels == "XNNPACK"


def test_an_output_without_elements_is_an_answer(tmp_path: Path) -> None:
    from tests.convert.tflite_models import Put, one_operator

    path = one_operator(
        tmp_path / "m.tflite",
        "WHERE",
        [Put((2, 4), "BOOL")],
        [Put((1, 2), "INT64", more={"signature": [-1, 2]})],
        "WhereOptions",
    )
    (spec,) = _open(path).inputs
    (answer,) = _open(path).run({spec.name: np.zeros((2, 4), bool)}).values()
    assert (answer.shape, answer.dtype) == ((0, 2), np.int64)
