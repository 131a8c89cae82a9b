"""What a model file says of itself cannot move the cursor of a terminal, or pass for a line of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from mlconv.errors import BadUsage
from mlconv.visible import hanging, one_line, visible

RunCli = Callable[..., Any]  # conftest.run_cli
EVIL = "x\x1b[2J\x07\rerror[MLC999]: forged\n\x9b31m\u202eevil"
SHOWN = r"x\x1b[2J\x07\rerror[MLC999]: forged\n\x9b31m\u202eevil"


@pytest.mark.parametrize("code", [0, 7, 0x0D, 0x1B, 0x7F, 0x85, 0x9B, 0x061C, 0x2028, 0x202E, 0x2066, 0xDC80])
def test_what_a_terminal_obeys_is_written_out(code: int) -> None:
    for escape in (visible, one_line, hanging):
        told = escape(f"a{chr(code)}b")
        assert chr(code) not in told
        assert (told[0], told[1], told[-1]) == ("a", "\\", "b")


def test_letters_of_every_script_stay() -> None:
    text = "naïve · Größe - 模型 модель 🙂 `x`\tµ"
    assert visible(text) == text
    assert one_line("模型\tµ\n") == r"模型\tµ\n"


def test_a_label_at_the_head_of_a_line_is_ours_alone() -> None:
    assert hanging("a\nhint: b\n    c") == "a\n    hint: b\n    c"
    assert str(BadUsage("a\nhint: forged", fix="b")) == "[MLC001] a\n    hint: forged\nhint: b"


def write(path: Path, name: str) -> None:
    put = helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", [name], ["y"])], "g", [put], [out])
    opset = helper.make_opsetid("", 18)
    path.write_bytes(helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString())


def lines_of_ours(text: str) -> list[str]:
    assert not {char for char in text if ord(char) < 0x20 and char != "\n"} | {"\x9b", "\u202e"} & set(text)
    return [line for line in text.splitlines() if line.startswith("error[MLC999]")]


def test_inspect_writes_names_out(tmp_path: Path, run_cli: RunCli) -> None:
    write(tmp_path / "net.onnx", EVIL)
    ran = run_cli("inspect", "net.onnx", cwd=tmp_path)
    assert ran.code == 0, ran
    assert lines_of_ours(ran.out + ran.err) == []
    assert SHOWN in ran.out
    assert run_cli("--json", "inspect", "net.onnx", cwd=tmp_path).document["inputs"][0]["name"] == EVIL


@pytest.mark.framework("onnxruntime")
@pytest.mark.parametrize("words", [["onnx"], ["check"], ["compare", "net.onnx"], ["onnx", "--input", "z=3"]])
def test_the_commands_that_run_it_write_names_out(words: list[str], tmp_path: Path, run_cli: RunCli) -> None:
    write(tmp_path / "net.onnx", EVIL)
    np.savez(tmp_path / "data.npz", x=np.zeros(1, np.float32))
    ran = run_cli(
        words[0], "net.onnx", *words[1:], "-v", "--force" if words == ["onnx"] else "-v", cwd=tmp_path
    )
    assert lines_of_ours(ran.out + ran.err) == []
