"""A function in a process of its own: its result, its exception in words, and its death."""

from __future__ import annotations

import math
import operator
import os
import time

import pytest
from benchmarks import isolated as module
from benchmarks.isolated import Failed, isolated


def test_the_result_comes_back() -> None:
    assert isolated(math.hypot, 3.0, 4.0) == 5.0


def test_an_exception_is_told_by_its_class_and_words() -> None:
    with pytest.raises(Failed, match=r"^ZeroDivisionError: .*by zero$"):
        isolated(operator.truediv, 1, 0)


def test_an_abort_is_told_with_its_exit_code() -> None:
    with pytest.raises(Failed, match=r"^the process died, exit -6$"):
        isolated(os.abort)


def test_what_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 2)
    with pytest.raises(Failed, match=r"^not done after 2 s$"):
        isolated(time.sleep, 60)
