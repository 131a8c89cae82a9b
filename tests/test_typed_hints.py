"""A hint is typed into a shell: a name out of a model file, or a path with a blank, is quoted there."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper

from mlconv.convert.job import Options
from mlconv.convert.trust import assert_trusted
from mlconv.errors import MlconvError
from mlconv.formats import ModelFile
from mlconv.messages import Scene, litert_words, onnxruntime_words, recognised, tensorflow_words
from mlconv.tensors import TensorSpec

RunCli = Callable[..., Any]  # conftest.run_cli
PACKAGE = Path(__file__).resolve().parents[1] / "src" / "mlconv"
QUOTES = {"quote", "for_shell", "typed", "_typed"}
BEFORE = re.compile(
    r"(?:--(?:input|outputs|signature|tag|module|weights|weights-prefix|custom-objects|data)[ =]'?"
    r"|\bmlconv (?:onnx|ort|check|inspect|compare) )$"
)
"""What stands before a word that a user is to type, and that comes from a file or from the user."""
IN_WORDS = {"text", "part"}
"""What the user typed, told back in the sentence that says what is wrong with it."""
QUOTED_BEFORE = {
    "formats/hugging_face.py: mlconv onnx {source.rpartition('/')[2]}",  # a name of that hub has no blank
    "formats/hugging_face.py: mlconv onnx {ref}",
    "convert/torch_import/ref.py: mlconv onnx {ref.place}",
    "formats/saved_model.py: --tag {_typed(tags[holding[0]]) if holding else close[0] if close else _typed(tags[0])}",
}
NASTY = TensorSpec("x;touch PWNED;", (1, 7), "int64")


def values_to_type() -> Iterator[str]:
    """Each value in an f-string of the package that stands where a word is typed, and is not quoted there."""
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.JoinedStr):
                continue
            for text, value in zip(node.values, node.values[1:], strict=False):
                if not (isinstance(text, ast.Constant) and isinstance(value, ast.FormattedValue)):
                    continue
                found = BEFORE.search(str(text.value))
                if found and not is_quoted(value.value) and ast.unparse(value.value) not in IN_WORDS:
                    place = file.relative_to(PACKAGE).as_posix()
                    yield f"{place}: {found[0]}{{{ast.unparse(value.value)}}}"


def is_quoted(value: ast.expr) -> bool:
    """Whether it is a word of ours, or goes through what quotes words."""
    if isinstance(value, ast.IfExp):
        return is_quoted(value.body) and is_quoted(value.orelse)
    if isinstance(value, ast.Call):
        return getattr(value.func, "attr", getattr(value.func, "id", "")) in QUOTES
    return isinstance(value, ast.Constant)


def test_every_value_that_stands_in_a_line_to_type_is_quoted() -> None:
    assert set(values_to_type()) - QUOTED_BEFORE == set()


@pytest.mark.parametrize(
    ("table", "said", "expected"),
    [
        (onnxruntime_words.RUN, "indices element out of data bounds, idx=9 must be within the inclusive range [-4,3]",
         "--input 'x;touch PWNED;=1,7:int64[0..3]'"),
        (onnxruntime_words.RUN, "running Add node. Name:'a' Status Message: dimension mismatch",
         "give sizes that the model takes, in place of these: --input 'x;touch PWNED;=1,7'; or --data with inputs of them"),
    ],
)  # fmt: skip
def test_the_name_of_an_input_is_one_word(table: Any, said: str, expected: str) -> None:
    known = recognised(said, Scene("net.onnx", "onnxruntime-cpu", (NASTY,)), table)
    assert known is not None
    assert known.fix == expected
    assert f"{NASTY.name}=1,7" in " ".join(shlex.split(expected))


@pytest.mark.parametrize(
    "table", [litert_words.RUN, litert_words.LOAD, tensorflow_words.RUN, onnxruntime_words.RUN]
)
def test_no_line_of_a_table_lets_a_name_out_of_its_quotes(table: Any) -> None:
    for message in table:
        groups = re.compile(message.pattern).groupindex
        filled = re.fullmatch("".join(f"(?P<{name}>a)" for name in groups), "a" * len(groups))
        assert filled is not None
        known = message.tell(filled, Scene("net", "", (NASTY,), is_asked=True))
        if known is not None and NASTY.name in known.fix:
            assert f"'{NASTY.name}=" in known.fix


# ------------------------------------------------------------------ a path with a blank


def write(path: Path, operator: str = "Relu") -> None:
    put, out = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"])], "g", [put], [out])
    opset = helper.make_opsetid("", 18)
    path.write_bytes(helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString())


def test_weights_alone_are_told_with_their_path_in_quotes() -> None:
    with pytest.raises(MlconvError) as caught:
        assert_trusted(ModelFile("my net.ckpt", Path("my net.ckpt"), "torch-weights"), Options())
    assert caught.value.fix.startswith("mlconv onnx 'my net.ckpt' --module ")


@pytest.mark.framework("onnxruntime")
@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["inspect", "my net.onnx", "--module", "my code.py:make"],
         "mlconv check 'my net.onnx' --module 'my code.py:make' runs it"),
        (["check", "my net.onnx", "--runtime", "onnxruntime==1.8"],
         "mlconv onnx 'my net.onnx' --runtime onnxruntime==1.8 writes one that fits where it can"),
    ],
)  # fmt: skip
def test_a_path_with_a_blank_is_quoted_in_every_hint(
    words: list[str], hint: str, tmp_path: Path, run_cli: RunCli
) -> None:
    write(tmp_path / "my net.onnx")
    ran = run_cli(*words, cwd=tmp_path)
    assert f"hint: {hint}" in ran.err, ran
