"""The grammar of `--input`: what is read, what is refused, and that the hint is of the grammar."""

import shlex

import pytest

from mlconv.errors import BadInputOption
from mlconv.input_grammar import parse_input, parse_inputs
from mlconv.tensors import Axis, InputOption

NAMELESS = Axis("")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,3,224,224", InputOption(None, (1, 3, 224, 224))),
        (" 1, 3, 224 ", InputOption(None, (1, 3, 224))),
        ("x=batch,3", InputOption("x", (Axis("batch"), 3))),
        ("x=batch=1..8@2,3", InputOption("x", (Axis("batch", 1, 8, 1, 2), 3))),
        ("batch=1..8,3", InputOption(None, (Axis("batch", 1, 8), 3))),
        ("x=h=32..640/32,3", InputOption("x", (Axis("h", 32, 640, 32), 3))),
        ("b,3,h=8..64/4,16", InputOption(None, (Axis("b"), 3, Axis("h", 8, 64, 4), 16))),
        ("n=scalar:int64", InputOption("n", (), "int64")),
        ("scalar", InputOption(None, ())),
        ("ids=1,12:int64[0..30521]", InputOption("ids", (1, 12), "int64", (0.0, 30521.0))),
        ("x=4:[-1..1]", InputOption("x", (4,), None, (-1.0, 1.0))),
        ("x=4:float32[ 0 .. 0.5 ]", InputOption("x", (4,), "float32", (0.0, 0.5))),
        ("past=1,0,8", InputOption("past", (1, 0, 8))),
        ("?,3", InputOption(None, (NAMELESS, 3))),
        ("x=-1,3,None", InputOption("x", (NAMELESS, 3, NAMELESS))),
        ("serving_default_x:0=1,4", InputOption("serving_default_x:0", (1, 4))),
        ("model/in.1[0]:0=1,4:int8", InputOption("model/in.1[0]:0", (1, 4), "int8")),
    ],
)
def test_an_input_option_is_read(text: str, expected: InputOption) -> None:
    assert parse_input(text) == expected


def test_sizes_of_a_range_are_multiples_of_its_step() -> None:
    assert parse_input("batch=1..9/2@4").dims == (Axis("batch", 2, 8, 2, 4),)


@pytest.mark.parametrize(
    ("text", "word", "hint"),
    [
        ("1x3x224x224", "neither a size", "1,3,224,224"),
        ("x=1x3x224x224", "neither a size", "x=1,3,224,224"),
        ("x:1x3x224x224", "not a dtype", "x=1,3,224,224"),
        ("x:[1, 3, 8]", "not a dtype", "x=1,3,8"),
        ("[1,3,8]", "neither a size", "1,3,8"),
        ("x=(1,3,8)", "neither a size", "x=1,3,8"),
        ("x=1 3 8", "neither a size", "x=1,3,8"),
        ("x=1,3,", "neither a size", "x=1,3"),
        ("x=*,3", "neither a size", "x=batch,3"),
        ("x=-5,3", "-5", "x=batch,3"),
        ("x=h-w,3", "h-w", "x=h_w,3"),
        ("x=n=8..1,3", "8 is above 1", "x=n=1..8,3"),
        ("x=n=1-8,3", "n=1-8", "x=n=1..8,3"),
        ("x=n=1:8,3", "n=1", "x=n=1..8,3"),
        ("x=b=1..8@9,3", "leaves out its default, 9", "x=b=1..8,3"),
        ("x=b=1..8/3@4,3", "4, is no multiple of 3", "x=b=1..8/3,3"),
        ("x=b=5..7/8,3", "holds no multiple of 8", "x=b=5..7,3"),
        ("x=b=1..8/0,3", "no step", "x=b=1..8,3"),
        ("x=1,3:float", "`float` is not a dtype; `float32` is", "x=1,3:float32"),
        ("x=1,3:FP32", "`float32` is", "x=1,3:float32"),
        ("x=1,3:torch.float16", "not a dtype", "x=1,3:float16"),
        ("x=1,3:long", "`int64` is", "x=1,3:int64"),
        ("x=1,3:flaot32", "`float32` is", "x=1,3:float32"),
        ("x=1,3:", "not a dtype", "x=1,3"),
        ("x=1:int8[9..1]", "9 is above 1", "x=1:int8[1..9]"),
        ("x=1:int64[0,9]", "not a dtype", "x=1:int64[0..9]"),
        ("x=1:int64[0:9]", "not a dtype", "x=1:int64[0..9]"),
        ("x=1:int64[0..9", "not a dtype", "x=1:int64[0..9]"),
        ("x=1:uint8[0..300]", "uint8 holds 0..255", "x=1:uint8[0..255]"),
        ("x=1:int64[0..9.5]", "whole numbers", "x=1:int64[0..10]"),
        ("x=1:str[0..1]", "takes no range", "x=1:str"),
    ],
)
def test_what_is_wrong_is_said_with_the_line_that_was_meant(text: str, word: str, hint: str) -> None:
    with pytest.raises(BadInputOption) as caught:
        parse_input(text)
    assert word in caught.value.what
    flag, typed = shlex.split(caught.value.fix)
    assert (flag, typed) == ("--input", hint)
    parse_input(typed)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no shape"),
        ("x=", "no shape"),
        ("=1,3", "no name"),
        ("x=1,,2", "neither a size"),
        ("x=99999999999", "no tensor has an axis"),
    ],
)
def test_where_nothing_is_near_the_hint_shows_how_an_option_looks(text: str, word: str) -> None:
    with pytest.raises(BadInputOption, match=word) as caught:
        parse_input(text)
    for typed in caught.value.fix.split(" or "):
        parse_input(shlex.split(typed)[1])


# ------------------------------------------------------------------ enumerated shapes


def test_the_same_name_again_adds_a_shape_whose_axes_move_together() -> None:
    (option,) = parse_inputs(["x=1,3,224,224:float32", "x=1,3,256,256", "x:0=2,3,320,320"])
    side = Axis("x_2", 224, 320, 1, 224, (224, 256, 320))
    assert option.dims == (Axis("batch", 1, 2, 1, 1, (1, 1, 2)), 3, side, side)
    assert option.shapes == ((1, 3, 224, 224), (1, 3, 256, 256), (2, 3, 320, 320))
    assert option.dtype == "float32"


def test_inputs_that_enumerate_the_same_sizes_share_the_axis() -> None:
    ids, mask = parse_inputs(["ids=1,16", "ids=1,32", "mask=1,16", "mask=1,32"])
    assert ids.dims == mask.dims == (1, Axis("ids_1", 16, 32, 1, 16, (16, 32)))


def test_the_same_shape_twice_is_that_shape() -> None:
    assert parse_inputs(["x=1,3", "x=1,3"]) == (InputOption("x", (1, 3)),)


def test_options_without_a_name_are_never_shapes_of_one_input() -> None:
    assert len(parse_inputs(["1,3", "1,4"])) == 2


@pytest.mark.parametrize(
    ("texts", "word"),
    [
        (["x=1,2", "x=1,3", "m=1,1", "m=1,2", "m=1,3"], "2 shapes of `x` and 3 shapes of `m`"),
        (["x=1,2", "x=1,2,3"], "as many axes each"),
        (["x=1,2", "x=n,2"], "axis 0 of it is no number"),
        (["x=1,2:int64", "x=1,3:int32"], "two dtypes: int64 and int32"),
        (["x=n=1..4", "y=n=1..8"], "axis `n` two ranges: n=1..4 and n=1..8"),
    ],
)
def test_options_that_contradict_each_other_are_refused(texts: list[str], word: str) -> None:
    with pytest.raises(BadInputOption, match=word):
        parse_inputs(texts)
