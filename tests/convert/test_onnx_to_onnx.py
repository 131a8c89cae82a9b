"""ONNX to ONNX, and the finishing of every artifact."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.convert.onnx_models import branching, model, node, residual

import mlconv
from mlconv.convert.job import Converted, Job, Options
from mlconv.convert.onnx_graph import finish as onnx_finish
from mlconv.convert.onnx_graph import optimize as onnx_optimize
from mlconv.convert.onnx_graph.file import save
from mlconv.convert.onnx_to_onnx import run
from mlconv.errors import BadInputOption, UnknownInput, UnknownOutput, UnsupportedOperator
from mlconv.formats import ModelFile
from mlconv.input_grammar import parse_input
from mlconv.runners.onnx_session import OnnxSession

X = np.random.default_rng(0).random((2, 3, 8, 8), np.float32)


def convert(
    folder: Path, proto: onnx.ModelProto, *inputs: str, **options: object
) -> tuple[Converted, Options]:
    source = folder / "source.onnx"
    source.write_bytes(proto.SerializeToString())
    chosen = Options(input=tuple(map(parse_input, inputs)), **options)  # type: ignore[arg-type]
    return run(
        Job(ModelFile(str(source), source, "onnx"), "onnx", folder / "out.onnx", folder, chosen)
    ), chosen


def test_the_reference_is_the_source_in_onnxruntime(tmp_path: Path) -> None:
    made, _ = convert(tmp_path, residual())
    assert made.reference.name == "onnxruntime-cpu"
    expected = made.reference.run({"x": X})
    np.testing.assert_array_equal(OnnxSession(tmp_path / "out.onnx").run({"x": X})["y"], expected["y"])
    assert [spec.name for spec in made.outputs] == ["y", "s"]


def test_a_fixed_axis_is_fixed_in_outputs_too(tmp_path: Path) -> None:
    made, _ = convert(tmp_path, residual(), "x=2,3,8,8")
    session = OnnxSession(tmp_path / "out.onnx")
    assert session.inputs[0].shape == (2, 3, 8, 8)
    assert [spec.shape for spec in session.outputs] == [
        (2, 5),
        (2, 4, 8, 8),
    ]
    assert made.inputs[0].shape == (2, 3, 8, 8)


def test_an_axis_is_renamed_wherever_it_stands(tmp_path: Path) -> None:
    convert(tmp_path, residual(), "N,3,8,8")
    session = OnnxSession(tmp_path / "out.onnx")
    assert session.inputs[0].shape == ("N", 3, 8, 8)
    assert session.outputs[0].shape == ("N", 5)


@pytest.mark.parametrize(
    ("option", "error"),
    [
        ("q=1,3,8,8", UnknownInput),
        ("x=1,3,9,8", BadInputOption),
        ("x=1,3,H,8", BadInputOption),
        ("x=1,3,8,8:int64", BadInputOption),
    ],
)
def test_an_input_option_that_does_not_fit_is_refused(
    tmp_path: Path, option: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        convert(tmp_path, residual(), option)


def test_outputs_may_be_values_inside(tmp_path: Path) -> None:
    made, _ = convert(tmp_path, residual(), outputs=("t2", "y"))
    expected, actual = made.reference.run({"x": X}), OnnxSession(tmp_path / "out.onnx").run({"x": X})
    assert list(actual) == list(expected) == ["t2", "y"]
    np.testing.assert_array_equal(actual["t2"], expected["t2"])


def test_an_unknown_output_is_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownOutput) as caught:
        convert(tmp_path, residual(), outputs=("t22",))
    assert "`t22`" in caught.value.what
    assert caught.value.fix == "--outputs t2"


def test_all_operators_that_nothing_defines_are_named(tmp_path: Path) -> None:
    nodes = [node("Wobble", ["x"], ["a"]), node("Odd", ["a"], ["y"], domain="own")]
    proto = model(nodes, {"x": [2]}, {"y": [2]}, imports=[onnx.helper.make_opsetid("own", 1)])
    with pytest.raises(UnsupportedOperator) as caught:
        convert(tmp_path, proto)
    assert "`Wobble`" in caught.value.what
    assert "`own.Odd`" in caught.value.what


def test_a_cut_before_an_unknown_operator_converts(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], ["a"]), node("Wobble", ["a"], ["y"])]
    made, _ = convert(tmp_path, model(nodes, {"x": [2]}, {"y": [2]}), outputs=("a",))
    assert made.reference.name == "onnxruntime-cpu"
    assert OnnxSession(tmp_path / "out.onnx").run({"x": np.array([-1, 1], np.float32)})["a"].tolist() == [
        0,
        1,
    ]


def test_a_source_that_onnxruntime_refuses_for_its_names_runs_in_the_reference_evaluator(
    tmp_path: Path,
) -> None:
    twice = model(
        [node("Relu", ["x"], ["a"], name="r"), node("Neg", ["a"], ["y"], name="r")], {"x": [2]}, {"y": [2]}
    )
    made, _ = convert(tmp_path, twice)
    assert made.reference.name == "onnx-reference"
    assert any("onnxruntime does not load" in text for text in made.warnings)
    feeds = {"x": np.array([-1, 2], np.float32)}
    np.testing.assert_array_equal(
        OnnxSession(tmp_path / "out.onnx").run(feeds)["y"], made.reference.run(feeds)["y"]
    )


def test_weights_that_are_inputs_become_constants(tmp_path: Path) -> None:
    proto = model(
        [node("Add", ["x", "w"], ["y"])],
        {"x": [2], "w": [2]},
        {"y": [2]},
        {"w": np.ones(2, np.float32)},
        ir_version=3,
    )
    convert(tmp_path, proto)
    assert [put.name for put in onnx.load(tmp_path / "out.onnx").graph.input] == ["x"]


def test_an_output_of_a_shape_that_cannot_be_is_mended_and_told(tmp_path: Path) -> None:
    proto = residual()
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 7
    made, _ = convert(tmp_path, proto)
    assert any("`y`" in text and "[batch,5]" in text for text in made.warnings)
    onnx.checker.check_model(onnx.load(tmp_path / "out.onnx"), full_check=True)


# ------------------------------------------------------------------ finishing


def finished(folder: Path, proto: onnx.ModelProto, **options: object) -> onnx_finish.Variants:
    made, chosen = convert(folder, proto, **options)
    return onnx_finish.variants(folder / "out.onnx", chosen, made.inputs)


def test_both_variants_compute_what_the_source_computes(tmp_path: Path) -> None:
    found = finished(tmp_path, residual())
    expected = OnnxSession(tmp_path / "source.onnx").run({"x": X})["y"]
    assert found.optimized is not None
    for number, variant in enumerate((found.plain, found.optimized)):
        save(variant, tmp_path / f"{number}.onnx")
        np.testing.assert_allclose(
            OnnxSession(tmp_path / f"{number}.onnx").run({"x": X})["y"], expected, rtol=1e-5, atol=1e-5
        )


def test_half_precision_lifts_an_opset_at_which_onnxruntime_crashes(tmp_path: Path) -> None:
    found = finished(tmp_path, residual(11), precision="fp16")
    assert found.plain.graph.opset_imports[""] == 14
    assert any("opset 11 became 14" in text for text in found.warnings)


def test_provenance_and_the_user_s_keys_are_embedded_in_order(tmp_path: Path) -> None:
    proto = branching()
    onnx.helper.set_model_props(proto, {"names": "cat", "team": "old"})
    plain = finished(tmp_path, proto, optimize=False).plain
    written = onnx_finish.with_provenance(plain, {"source": {"sha256": "ab"}}, [("team", "vision")])
    save(written, tmp_path / "m.onnx")
    props = {entry.key: entry.value for entry in onnx.load(tmp_path / "m.onnx").metadata_props}
    assert json.loads(props.pop(onnx_finish.PROVENANCE)) == {"source": {"sha256": "ab"}}
    assert props == {"names": "cat", "team": "vision"}
    assert list(props) == sorted(props)
    assert onnx.load(tmp_path / "m.onnx").producer_name == "mlconv"


@pytest.mark.parametrize("failure", [RuntimeError("no"), KeyError("x"), TimeoutError()])
def test_an_optimizer_that_fails_leaves_the_plain_model_and_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def broken(_proto: object) -> None:
        raise failure

    monkeypatch.setattr(onnx_optimize, "_slim", broken)
    found = finished(tmp_path, residual())
    assert found.optimized is None
    assert any(text.startswith("not optimized") for text in found.warnings)


def test_an_optimizer_that_makes_the_model_much_larger_is_not_followed(tmp_path: Path) -> None:
    weights: dict[str, np.ndarray] = {
        "one": np.ones((1, 8), np.float32),
        "times": np.array([1 << 12, 1], np.int64),
    }
    nodes = [node("Tile", ["one", "times"], ["big"]), node("Add", ["x", "big"], ["y"])]
    found = finished(tmp_path, model(nodes, {"x": [1, 8]}, {"y": [1 << 12, 8]}, weights))
    assert found.optimized is None or (
        len(save(found.optimized, tmp_path / "o.onnx")) and (tmp_path / "o.onnx").stat().st_size < 5000
    )


def test_two_processes_with_other_hash_seeds_write_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(residual(11).SerializeToString())
    code = (
        "import sys; from pathlib import Path; from mlconv.convert.onnx_graph import finish as f; from mlconv.convert.job import Options;"
        "v = f.variants(Path('m.onnx'), Options(precision='fp16')); f.save(v.optimized, Path(sys.argv[1]))"
    )
    for seed in "01":
        environment = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "PYTHONPATH": str(Path(mlconv.__file__).parents[1]),
        }
        subprocess.run(
            [sys.executable, "-c", code, f"{seed}.onnx"],
            cwd=tmp_path,
            env=environment,
            check=True,
            capture_output=True,
        )
    assert (tmp_path / "0.onnx").read_bytes() == (tmp_path / "1.onnx").read_bytes()


def test_silero_with_its_branches_and_odd_imports_converts(tmp_path: Path, models: Path) -> None:
    source = models / "gkonovalov_android-vad/silero__src__main__assets__silero_vad.onnx"
    made = run(
        Job(ModelFile(str(source), source, "onnx"), "onnx", tmp_path / "out.onnx", tmp_path, Options())
    )
    rng = np.random.default_rng(0)
    feeds: dict[str, np.ndarray] = {"input": rng.random((1, 512), np.float32), "sr": np.array(16000, np.int64),
             "h": rng.random((2, 1, 64), np.float32), "c": rng.random((2, 1, 64), np.float32)}  # fmt: skip
    expected, actual = made.reference.run(feeds), OnnxSession(tmp_path / "out.onnx").run(feeds)
    for name, array in expected.items():
        np.testing.assert_allclose(actual[name], array, rtol=1e-5, atol=1e-6)
    assert [entry.domain for entry in onnx.load(tmp_path / "out.onnx").opset_import] == [""]
