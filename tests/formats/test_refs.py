"""The grammar of a REF."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlconv.errors import BadUsage
from mlconv.formats.refs import Ref, is_ref, parse_ref


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
