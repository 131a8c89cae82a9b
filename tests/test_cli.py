"""The command line: globals, one shape of error, what it imports."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlconv.cli import _split

RunCli = Callable[..., Any]
FRAMEWORKS = {
    "torch",
    "tensorflow",
    "keras",
    "coremltools",
    "onnx",
    "onnxruntime",
    "numpy",
    "rich",
    "pydantic",
}


@pytest.mark.parametrize("words", [["--help"], ["onnx", "--help"], ["onnx", "--opzet"]])
def test_help_and_usage_errors_import_no_framework(words: list[str]) -> None:
    code = (
        "import sys\nfrom mlconv.cli import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print('MODULES', *sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split("MODULES", 1)[1].split())
    # typer 0.29 reads a command's words by pydantic; the help of the whole tool does without
    assert not loaded & (FRAMEWORKS if words == ["--help"] else FRAMEWORKS - {"pydantic"})


def test_global_flags_may_stand_before_and_after_the_command() -> None:
    for words in (["--json", "-q", "onnx", "m.pt2"], ["onnx", "m.pt2", "--quiet", "--json"]):
        session, rest = _split(words)
        assert (session.json, session.quiet, rest) == (True, True, ["onnx", "m.pt2"])


def test_what_follows_two_dashes_is_no_flag() -> None:
    session, rest = _split(["inspect", "--", "--json"])
    assert (session.json, rest) == (False, ["inspect", "--", "--json"])


def test_the_version_is_one_line(run_cli: RunCli) -> None:
    ran = run_cli("--version")
    assert re.fullmatch(r"mlconv \d+\.\d+\.\d+\n", ran.out)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["onxn", "m.onnx"],
            "error[MLC001]: no such command 'onxn'\nhint: `onnx`? mlconv --help lists all\n",
        ),
        (
            ["onnx", "--opzet"],
            "error[MLC001]: no such option: --opzet\nhint: `--opset`? mlconv onnx --help lists all\n",
        ),
        (["onnx"], "error[MLC001]: missing argument 'SOURCE'\nhint: mlconv onnx --help\n"),
        (
            ["onnx", "m.onnx", "--precision", "fp12"],
            "error[MLC001]: --precision fp12: there are fp32 and fp16\nhint: --precision fp16\n",
        ),
        (
            ["onnx", "m.onnx", "--input", "x="],
            "error[MLC005]: --input x=: it has no shape\nhint: --input x=1,3,224,224 or --input x=batch,3,224,224:float32\n",
        ),
        (
            ["onnx", "m.onnx", "--metadata", "team"],
            "error[MLC001]: --metadata team: not of the form KEY=VALUE\nhint: --metadata team=vision\n",
        ),
        (
            ["compare", "a.onnx", "b.onnx", "--outputs", "y"],
            "error[MLC001]: --outputs y: not of the form A=B\nhint: --outputs REFERENCE_NAME=CANDIDATE_NAME,...\n",
        ),
    ],
)
def test_a_usage_error_is_printed_whole(words: list[str], text: str, run_cli: RunCli) -> None:
    ran = run_cli(*words)
    assert (ran.code, ran.out, ran.err) == (2, "", text)


def test_a_usage_error_is_the_same_in_json(run_cli: RunCli) -> None:
    ran = run_cli("--json", "onnx", "--opzet")
    assert json.loads(ran.out)["id"] == "MLC001"
    assert ran.err == ""


def test_colours_are_for_terminals_and_for_those_who_force_them(run_cli: RunCli) -> None:
    assert "\x1b[" not in run_cli("onxn").err
    assert "\x1b[1;31merror[MLC001]\x1b[0m" in run_cli("onxn", env={"FORCE_COLOR": "1"}).err
    assert "\x1b[" not in run_cli("--no-color", "onxn", env={"FORCE_COLOR": "1"}).err


def test_formats_lists_every_format_with_what_it_becomes(run_cli: RunCli) -> None:
    from mlconv.formats import FORMATS

    told = json.loads(run_cli("--json", "formats").out)
    assert [item["id"] for item in told["formats"]] == list(FORMATS)
    assert {item["id"] for item in told["formats"] if item["converts_to"] == ["onnx", "ort"]} == set(FORMATS) - {
        "tflite-edgetpu", "ort", "coreml", "coreml-package",
    }  # fmt: skip


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m mlconv formats | head -n 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.startswith("torch-export")


@pytest.mark.parametrize(
    "words", ["--json formats extra", "--json onnx missing.onnx", "--json formats", "--help"]
)
def test_no_document_prints_a_traceback_into_a_closed_pipe(words: str) -> None:
    command = f"{sys.executable} -m mlconv {words} | true"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_an_error_into_a_closed_pipe_keeps_its_exit_code() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "mlconv", "--json", "formats", "extra"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (2, "")


def test_messages_into_a_closed_pipe_are_an_error_still() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "mlconv", "onnx", "missing.onnx"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=writer, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stdout) == (3, "")


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("words", [[], ["--json"]])
def test_an_interruption_has_the_shape_of_every_failure(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "data.py").write_text(
        "import pathlib, time\ndef rows():\n    pathlib.Path('here').touch()\n    time.sleep(300)\n    yield\n"
    )
    demo = Path(__file__).parents[1] / "src" / "mlconv" / "demo" / "digits.onnx"
    command = [sys.executable, "-m", "mlconv", *words, "onnx", str(demo), "--data", "data.py:rows"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for _ in range(600):
        if (tmp_path / "here").exists():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "MLC710" in (out if words else err)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.py", "here"]
