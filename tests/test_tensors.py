"""Signatures, and `--input` laid over them."""

import pytest

from mlconv.errors import BadInputOption, UnknownInput
from mlconv.input_grammar import parse_input
from mlconv.tensors import Axis, TensorSpec, axes_of, show_shape, with_input_options, with_ties

IMAGE = TensorSpec("image", ("batch", 3, None, None), "float32")
TOKENS = TensorSpec("tokens", (1, 12), "int64")


def test_an_axis_is_tried_at_its_default_least_and_greatest_size() -> None:
    assert Axis("batch").sizes() == (2, 1, 3)
    assert Axis("batch", 1, 8, 1, 4).sizes() == (4, 1, 8)
    assert Axis("h", 32, 640, 32).sizes() == (64, 32, 640)
    assert Axis("batch", 5, 5).sizes() == (5,)
    assert Axis("x_2", 16, 64, default=64, choices=(64, 16, 16)).sizes() == (64, 16)


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


def test_the_zero_of_the_source_may_be_left_out_too() -> None:
    spec = IMAGE.renamed("image:0")
    assert with_input_options((spec,), (parse_input("image=1,3,8,8"),))[0].shape == (1, 3, 8, 8)


def test_options_without_a_name_stand_for_the_inputs_that_none_names() -> None:
    image, tokens = with_input_options(
        (IMAGE, TOKENS), (parse_input("1,12:int32"), parse_input("image=2,3,4,4"))
    )
    assert (image.shape, tokens.dtype) == ((2, 3, 4, 4), "int32")


def test_an_unknown_input_is_told_with_the_line_that_was_meant() -> None:
    with pytest.raises(UnknownInput, match="no input `imge`; it has `image`, `tokens`") as caught:
        with_input_options((IMAGE, TOKENS), (parse_input("imge=1,3,8,8"),))
    assert caught.value.fix == "--input image=1,3,8,8"


def test_more_options_than_inputs_are_refused() -> None:
    with pytest.raises(UnknownInput, match="3 `--input`, and the model has 2 inputs: `image`, `tokens`"):
        with_input_options((IMAGE, TOKENS), (parse_input("1,3,8,8"), parse_input("1,12"), parse_input("1")))


def test_a_second_shape_without_a_name_is_told_to_take_one() -> None:
    with pytest.raises(UnknownInput) as caught:
        with_input_options((IMAGE,), (parse_input("1,3,8,8"), parse_input("1,3,9,9")))
    assert caught.value.fix == "--input image=1,3,8,8 --input image=1,3,9,9"


def test_two_options_for_one_input_by_two_names_are_refused() -> None:
    with pytest.raises(BadInputOption, match="two `--input` mean `image`: `image` and `image:0`"):
        with_input_options((IMAGE,), (parse_input("image=1,3,8,8"), parse_input("image:0=1,3,8,8")))


def test_an_axis_without_a_name_keeps_the_source_s_own_or_gets_one() -> None:
    spec = TensorSpec("in.1:0", ("n", None, None, 3), "float32")
    assert with_input_options((spec,), (parse_input("?,-1,None,?"),))[0].shape == (
        "n", "in_1_1", "in_1_2", 3,
    )  # fmt: skip
    unknown = TensorSpec("x", None, "float32")
    assert with_input_options((unknown,), (parse_input("-1,3"),))[0].shape == ("batch", 3)


def test_a_range_that_the_model_s_dtype_cannot_hold_is_refused() -> None:
    with pytest.raises(BadInputOption, match=r"draws `b` from 0\.\.300, and uint8 holds 0\.\.255") as caught:
        with_input_options((TensorSpec("b", (4,), "uint8"),), (parse_input("b=4:[0..300]"),))
    assert caught.value.fix == "--input 'b=4:uint8[0..99]'"


def test_an_axis_that_follows_from_another_takes_its_size() -> None:
    axes = {"n": Axis("n", 2, 9), "m": Axis("m", tie=("n", 2, 1))}
    assert with_ties({"n": 4, "m": 2}, axes) == {"n": 4, "m": 9}
    assert not axes["m"].is_open


def test_another_rank_or_another_fixed_size_is_refused() -> None:
    with pytest.raises(BadInputOption, match="3 axes, and the model has 4"):
        with_input_options((IMAGE,), (parse_input("image=3,8,8"),))
    with pytest.raises(BadInputOption, match="fixed to 1,12"):
        with_input_options((TOKENS,), (parse_input("tokens=1,13"),))


def test_axes_carry_the_range_that_the_option_gave() -> None:
    option = parse_input("image=batch=1..4,3,h,w")
    (spec,) = with_input_options((IMAGE,), (option,))
    assert axes_of((spec,), (option,)) == {"batch": Axis("batch", 1, 4), "h": Axis("h"), "w": Axis("w")}


def test_a_range_that_is_given_once_holds_wherever_the_name_stands() -> None:
    options = (parse_input("image=n=1..4,3,?,?"), parse_input("tokens=n,12"))
    specs = with_input_options((IMAGE, TensorSpec("tokens", (None, 12), "int64")), options)
    assert axes_of(specs, options)["n"] == Axis("n", 1, 4)
    assert list(axes_of(specs, options, ranged_only=True)) == ["n"]


def test_a_shape_is_shown_as_the_option_takes_it() -> None:
    assert [show_shape(shape) for shape in (("n", 3, None), (), None)] == ["n,3,?", "scalar", "?"]
