"""Looking a framework's message up in a table."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from mlconv.errors import BadInputOption, InputsRefused, InvalidGraph, NoKernel
from mlconv.messages import Message, Scene, onnxruntime_words, recognised, torch_words
from mlconv.messages.anywhere import from_job, from_run
from mlconv.tensors import TensorSpec

X = TensorSpec("x", (1, 5), "float32")
SCENE = Scene("net.onnx")


def says(what: str | None) -> Callable[[re.Match[str], Scene], NoKernel | None]:
    """A line that tells this of whatever it finds."""
    return lambda _match, _scene: NoKernel(what, fix="mend it") if what else None


def test_the_first_line_that_knows_a_message_tells_it() -> None:
    first = Message("kernel", lambda match, scene: NoKernel(f"{scene.ref}: {match[0]}", fix="first"))
    second = Message("kernel", says("never"))
    found = recognised(RuntimeError("no kernel here"), SCENE, (first,), (second,))
    assert isinstance(found, NoKernel)
    assert (found.what, found.fix) == ("net.onnx: kernel", "first")


def test_a_line_may_find_that_it_is_something_else() -> None:
    never = Message("kernel", says(None))
    assert recognised(RuntimeError("no kernel"), SCENE, (never,)) is None


def test_the_framework_s_own_line_becomes_the_reason_with_the_place_in_the_user_s_code() -> None:
    message = Message("bad (?P<what>axis)", says("a fault"))
    error = ValueError("a preamble\n  a   bad axis, of course  \nand advice")
    found = recognised(error, Scene("net", place="net.py:3 `y = f(x)`"), (message,))
    assert found is not None
    assert found.why == "a bad axis, of course (at net.py:3 `y = f(x)`)"


def test_a_long_line_is_cut_around_the_message() -> None:
    message = Message("axis", says("a fault"))
    found = recognised("b" * 1000 + " axis " + "c" * 1000, SCENE, (message,))
    assert found is not None
    assert found.why is not None
    assert len(found.why) <= 300
    assert "axis" in found.why


def test_causes_are_read_too() -> None:
    try:
        try:
            raise KeyError("Could not find an implementation for Conv(11) node with name 'c'")
        except KeyError as inner:
            raise RuntimeError("the export failed") from inner
    except RuntimeError as error:
        found = recognised(error, SCENE, onnxruntime_words.LOAD)
    assert isinstance(found, NoKernel)


def test_what_no_table_knows_is_left_to_the_caller() -> None:
    assert (
        recognised(RuntimeError("the sensor is off"), SCENE, torch_words.RUN, onnxruntime_words.LOAD) is None
    )
    assert from_job("the sensor is off", "net.onnx") is None


def test_shapes_that_input_gave_are_its_fault_and_others_the_source_s() -> None:
    text = "mat1 and mat2 shapes cannot be multiplied (1x5 and 4x2)"
    asked = recognised(text, Scene("forward", inputs=(X,), is_asked=True), torch_words.RUN)
    drawn = recognised(text, Scene("forward", inputs=(X,)), torch_words.RUN)
    assert isinstance(asked, BadInputOption)
    assert isinstance(drawn, InputsRefused)
    assert (
        asked.what
        == drawn.what
        == "forward does not take `x` 1,5 float32: a layer takes 4 features and is given 5"
    )


def test_a_job_s_text_is_looked_up_in_every_table_of_loading() -> None:
    text = "Type Error: Type parameter (T) of Optype (Add) bound to different types (tensor(float) and tensor(int64) in node ()."
    assert isinstance(from_job(text, "net.onnx"), InvalidGraph)


def test_a_runner_s_words_are_looked_up_in_its_own_table_alone() -> None:
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied (1x5 and 4x2)")
    assert isinstance(from_run(error, "torch-cpu", [X]), InputsRefused)
    assert from_run(error, "onnxruntime-cpu", [X]) is None
    assert from_run(error, "somebody's own", [X]) is None


CONV = "Given groups=1, weight of size [4, 3, 3, 3], expected input[{}] to have 3 channels, but got {} channels instead"


@pytest.mark.parametrize(
    ("shape", "text", "likeliest"),
    [
        ((1, 5), "mat1 and mat2 shapes cannot be multiplied (1x5 and 4x2)", (1, 4)),
        ((1, 32, 32, 3), CONV.format("1, 32, 32, 3", 32), (1, 3, 32, 32)),
        (("n", 32, 32, 3), CONV.format("2, 32, 32, 3", 32), ("n", 3, 32, 32)),
        ((1, 1, 32, 32), CONV.format("1, 1, 32, 32", 1), (1, 3, 32, 32)),
        ((1, 20, 4), "The size of tensor a (20) must match the size of tensor b (16) at non-singleton dimension 1", (1, 16, 4)),
        ((1, 17), "shape '[-1, 4, 4]' is invalid for input of size 17", (1, 16)),
        ((1, 3, 2, 2), "Kernel size can't be greater than actual input size", (1, 3, 224, 224)),
        ((1, 6), "Given normalized_shape=[4], expected input with shape [*, 4]", (1, 4)),
    ],
)  # fmt: skip
def test_a_message_suggests_the_shape_that_it_speaks_of_first(
    shape: tuple[int | str, ...], text: str, likeliest: tuple[int | str, ...]
) -> None:
    found = torch_words.candidates((TensorSpec("x", shape, "float32"),), text)
    assert found[0] == (TensorSpec("x", likeliest, "float32"),)


def test_a_message_about_dtypes_suggests_the_weights() -> None:
    found = torch_words.candidates(
        (TensorSpec("x", (1, 4), "float64"),), "mat1 and mat2 must have the same dtype"
    )
    assert found == [(TensorSpec("x", (1, 4), "float32"),)]


def test_an_input_of_unknown_rank_suggests_nothing() -> None:
    assert torch_words.candidates((TensorSpec("x", None, "float32"),), "Kernel size can't be greater") == []


RUNNING = "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running"
SOURCES = "/onnxruntime_src/onnxruntime/core/providers/cpu/math/element_wise_ops.h:583 void Append(ptrdiff_t, ptrdiff_t)"


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (f"{RUNNING} Add node. Name:'a/b' Status Message: {SOURCES} axis == 1 was false. Attempting to broadcast 6 by 9",
         "Add `a/b`: Attempting to broadcast 6 by 9"),
        (f"{RUNNING} MatMul node. Name:'' Status Message: matmul_helper.h:59 Compute MatMul dimension mismatch",
         "MatMul: Compute MatMul dimension mismatch"),
        ("[ONNXRuntimeError] : 10 : INVALID_GRAPH : Load model from net.onnx failed:This is an invalid model. Type Error: no",
         "Type Error: no"),
    ],
)  # fmt: skip
def test_onnxruntime_s_words_are_told_without_codes_and_paths(text: str, plain: str) -> None:
    assert onnxruntime_words.plain(text) == plain
