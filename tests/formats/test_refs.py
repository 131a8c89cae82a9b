"""The grammar of a REF."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlconv.errors import BadUsage
from mlconv.formats.refs import Ref, for_shell, is_ref, parse_ref


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("net.py:make", Ref(None, Path("net.py"), "make")),
        ("pkg.mod:Class", Ref("pkg.mod", None, "Class")),
        ("a/b c.py:zoo.make()", Ref(None, Path("a/b c.py"), "zoo.make", called=True)),
        ('timm:create_model("resnet18")', Ref("timm", None, "create_model", ("resnet18",), called=True)),
        (
            "net:f(1, -2.5, True, None, [1, 2], sizes=(3, 4), names={'a': 'b'})",
            Ref(
                "net",
                None,
                "f",
                (1, -2.5, True, None, [1, 2]),
                {"sizes": (3, 4), "names": {"a": "b"}},
                called=True,
            ),
        ),
    ],
)
def test_a_ref_has_a_place_a_name_and_literals(text: str, expected: Ref) -> None:
    assert parse_ref(text) == expected


@pytest.mark.parametrize(
    "text",
    ["net.onnx", "C:/models/net", r"C:\models\net.onnx", "C:net", "org/name", "a:b:c", "m:1x", ":make", "m:"],
)
def test_paths_and_windows_drives_are_no_refs(text: str) -> None:
    assert not is_ref(text)


def test_a_python_file_on_a_windows_drive_is_a_ref() -> None:
    assert parse_ref(r"C:\models\net.py:make").name == "make"


def test_text_in_arguments_may_hold_a_ref_itself() -> None:
    assert parse_ref('net.py:make("other.py:made")') == Ref(
        None, Path("net.py"), "make", ("other.py:made",), called=True
    )


@pytest.mark.parametrize(
    "call",
    [
        "f(x)",
        "f(__import__('os'))",
        "f(**{'a': 1})",
        "f(*[1])",
        "f(1)(2)",
        "f(open('x'))",
        "f(" + "[" * 500 + ")",
    ],
)
def test_arguments_that_are_no_literals_are_refused_unevaluated(call: str) -> None:
    with pytest.raises(BadUsage, match="not literals"):
        parse_ref(f"net:{call}")


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("net.py:make(10", "'net.py:make(10)'"),
        ("net.py:make(10,", "'net.py:make(10)'"),
        ('timm:create_model("resnet18", num_classes', "'timm:create_model(\"resnet18\")'"),
        ("timm:create_model(resnet18)", "'timm:create_model(\"resnet18\")'"),
        (
            "timm:create_model(resnet18, pretrained=false)",
            "'timm:create_model(\"resnet18\", pretrained=False)'",
        ),
        ("hub:load(org/name, small)", '\'hub:load("org/name", "small")\''),
        ("net.py:", "name what makes the model: net.py:make"),
        ("net.py::make", "net.py:make"),
        ("net.py:make 3", "name one module, class or function: net.py:make"),
    ],
)
def test_what_a_shell_or_a_slip_left_of_a_ref_is_typed_out(text: str, typed: str) -> None:
    assert is_ref(text)
    with pytest.raises(BadUsage) as caught:
        parse_ref(text)
    assert caught.value.fix == typed
    if typed.startswith("'"):
        parse_ref(typed.strip("'"))


@pytest.mark.parametrize("argument", ["nn.ReLU", "torch.float16", "f(3)", "lambda x: x", "1 if x else 2"])
def test_python_among_the_arguments_is_not_taken_for_text(argument: str) -> None:
    with pytest.raises(BadUsage) as caught:
        parse_ref(f"net.py:make({argument})")
    assert caught.value.fix == "put the call into a function of a .py file, and name that: net.py:make"


@pytest.mark.parametrize(
    "text",
    [
        "net.py:make",
        "net.py:make()",
        'timm:create_model("resnet18", num_classes=10)',
        'net:f(-1, 2.5, None, (3,), [1, (2, 3)], names={"a b": "it\'s", "q": "say \\"so\\""}, path="C:\\\\net")',
    ],
)
def test_a_ref_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_ref(text)) == text
    assert parse_ref(str(parse_ref(text))) == parse_ref(text)


def test_an_argument_is_added_or_replaced() -> None:
    ref = parse_ref('timm:create_model("resnet18", num_classes=10)')
    assert str(ref.with_arguments(num_classes=21)) == 'timm:create_model("resnet18", num_classes=21)'
    assert for_shell(str(parse_ref("net.py:make").with_arguments(width=3))) == "'net.py:make(width=3)'"
    assert for_shell("net.py:make") == "net.py:make"
