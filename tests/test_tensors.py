"""`--input` and signatures."""

import pytest

from mlconv.errors import BadInputOption, UnknownInput
from mlconv.tensors import Axis, InputOption, TensorSpec, axes_of, parse_input, show_shape, with_input_options

IMAGE = TensorSpec("image", ("batch", 3, None, None), "float32")
TOKENS = TensorSpec("tokens", (1, 12), "int64")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,3,224,224", InputOption(None, (1, 3, 224, 224))),
        ("x=batch,3", InputOption("x", (Axis("batch"), 3))),
        ("x=batch=1..8@2,3", InputOption("x", (Axis("batch", 1, 8, 1, 2), 3))),
        ("batch=1..8,3", InputOption(None, (Axis("batch", 1, 8), 3))),
        ("x=h=32..640/32,3", InputOption("x", (Axis("h", 32, 640, 32), 3))),
        ("n=scalar:int64", InputOption("n", (), "int64")),
        ("ids=1,12:int64[0..30521]", InputOption("ids", (1, 12), "int64", (0.0, 30521.0))),
        ("x=4:[-1..1]", InputOption("x", (4,), None, (-1.0, 1.0))),
        ("serving_default_x:0=1,4", InputOption("serving_default_x:0", (1, 4))),
    ],
)
def test_an_input_option_is_read(text: str, expected: InputOption) -> None:
    assert parse_input(text) == expected


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("x=", "no shape"),
        ("x=1,,2", "neither a size"),
        ("x=1,3:float33", "float33"),
        ("x=1:int8[9..1]", "empty"),
        ("x=b=8..1,3", "empty"),
        ("x=b=1..8@9,3", "leaves out its default"),
        ("x=-1,3", "-1"),
    ],
)
def test_what_is_wrong_with_an_input_option_is_said(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        parse_input(text)


def test_an_axis_is_tried_at_its_default_least_and_greatest_size() -> None:
    assert Axis("batch").sizes() == (2, 1, 3)
    assert Axis("batch", 1, 8, 1, 4).sizes() == (4, 1, 8)
    assert Axis("h", 32, 640, 32).sizes() == (64, 32, 640)
    assert Axis("batch", 5, 5).sizes() == (5,)


def test_options_are_laid_over_the_signature_by_name_and_in_order() -> None:
    by_name = with_input_options(
        (IMAGE, TOKENS), (parse_input("tokens=1,12"), parse_input("image=2,3,64,64"))
    )
    assert [spec.shape for spec in by_name] == [(2, 3, 64, 64), (1, 12)]
    in_order = with_input_options(
        (IMAGE, TOKENS), (parse_input("batch,3,h,w"), parse_input("1,12:int32[0..9]"))
    )
    assert in_order[0].shape == ("batch", 3, "h", "w")
    assert (in_order[1].dtype, in_order[1].values) == ("int32", (0.0, 9.0))


def test_the_zero_at_the_end_of_a_name_may_be_left_out() -> None:
    assert with_input_options((IMAGE,), (parse_input("image:0=1,3,8,8"),))[0].shape == (1, 3, 8, 8)


def test_an_unknown_input_is_named_with_those_that_there_are() -> None:
    with pytest.raises(UnknownInput, match="no input `imge`; it has `image`, `tokens`") as caught:
        with_input_options((IMAGE, TOKENS), (parse_input("imge=1,3,8,8"),))
    assert caught.value.fix == "--input image=..."


def test_a_third_option_for_two_inputs_is_refused() -> None:
    with pytest.raises(UnknownInput, match="number 3"):
        with_input_options((IMAGE, TOKENS), (parse_input("1,3,8,8"), parse_input("1,12"), parse_input("1")))


def test_another_rank_or_another_fixed_size_is_refused() -> None:
    with pytest.raises(BadInputOption, match="3 axes, and the model has 4"):
        with_input_options((IMAGE,), (parse_input("image=3,8,8"),))
    with pytest.raises(BadInputOption, match="fixed to 1,12"):
        with_input_options((TOKENS,), (parse_input("tokens=1,13"),))


def test_axes_carry_the_range_that_the_option_gave() -> None:
    option = parse_input("image=batch=1..4,3,h,w")
    (spec,) = with_input_options((IMAGE,), (option,))
    assert axes_of((spec,), (option,)) == {"batch": Axis("batch", 1, 4), "h": Axis("h"), "w": Axis("w")}


def test_a_shape_is_shown_as_the_option_takes_it() -> None:
    assert [show_shape(shape) for shape in (("n", 3, None), (), None)] == ["n,3,?", "scalar", "?"]


def test_a_range_may_stand_after_the_first_axis_of_an_unnamed_input() -> None:
    assert parse_input("b,3,h=8..64/4,16") == InputOption(None, (Axis("b"), 3, Axis("h", 8, 64, 4), 16))
