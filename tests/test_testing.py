"""`assert_converts`: passes where a model converts, and tells the whole story where it does not."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from mlconv.errors import BadInputOption, BadUsage, DataDependentControlFlow, ParityFailed, UnknownFormat
from mlconv.testing import assert_converts

pytestmark = pytest.mark.framework("torch", "onnxscript")

if importlib.util.find_spec("torch"):
    import torch

    class Gate(torch.nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x


def net() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(30, 20), torch.nn.Tanh(), torch.nn.Linear(20, 20))


@pytest.mark.parametrize("target", ["onnx", "ort"])
def test_a_model_that_converts_passes_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.chdir(tmp_path)
    made = assert_converts(net(), target, example=torch.randn(2, 30))  # type: ignore[arg-type]
    assert (made.ok, made.artifact.format) == (True, target)
    assert list(tmp_path.iterdir()) == []
    assert not Path(made.artifact.path).exists()


def test_the_artifact_stays_where_a_path_was_given(tmp_path: Path) -> None:
    assert_converts(net(), output=tmp_path / "net.onnx", example=torch.randn(2, 30))
    assert (tmp_path / "net.onnx").is_file()


def test_a_wrong_answer_is_told_with_figures_place_and_hint() -> None:
    with pytest.raises(AssertionError) as caught:
        assert_converts(net(), example=torch.randn(2, 30), atol=0, rtol=0)
    told = str(caught.value)
    assert told.startswith("[MLC310] `output` differs from the source: max |d| ")
    assert "  why: worst at [" in told
    assert "hint: " in told
    assert "<Sequential> (torch-module) -> " in told
    assert "FAILED output  max |d| " in told
    assert isinstance(caught.value.__cause__, ParityFailed)


def test_a_model_that_does_not_convert_is_a_failed_assertion_with_the_error_as_its_cause() -> None:
    with pytest.raises(AssertionError, match=r"Gate does not convert to onnx\n\[MLC210\]") as caught:
        assert_converts(Gate(), example=torch.randn(3))
    assert isinstance(caught.value.__cause__, DataDependentControlFlow)


def test_a_wrong_call_is_no_fault_of_the_model() -> None:
    with pytest.raises(BadUsage, match="no target 'tflight'"):
        assert_converts(net(), "tflight", example=torch.randn(2, 30))  # type: ignore[arg-type]
    with pytest.raises(BadInputOption):
        assert_converts(net(), example=torch.randn(2, 30), inputs=["x=,"])


def test_a_file_that_is_no_model_is_a_failed_assertion_with_the_whole_text(tmp_path: Path) -> None:
    (tmp_path / "prose.onnx").write_text("This is not a model.")
    with pytest.raises(AssertionError, match=r"prose\.onnx does not convert to onnx\n\[MLC103\]") as caught:
        assert_converts(str(tmp_path / "prose.onnx"))
    assert "hint: " in str(caught.value)
    assert isinstance(caught.value.__cause__, UnknownFormat)
    with pytest.raises(AssertionError, match=r"\[MLC101\]"):
        assert_converts("no-such-file.onnx")
