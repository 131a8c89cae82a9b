"""The table of TFLite operators: complete, without doubles, and every function that it names is there."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import pytest

from mlconv.formats import tflite_operators
from mlconv.formats import tflite_schema as schema
from mlconv.formats.tflite_operators.entry import TfliteOperator

ENTRIES = list(tflite_operators.OPERATORS.values())
NO_OPERATORS = {"CUSTOM", "DELEGATE", "PLACEHOLDER_FOR_GREATER_OP_CODES"}
"""Names in the schema that no operator of a file bears by itself."""


@pytest.mark.framework("onnx_ir")
@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.read], ids=lambda entry: entry.kind)
def test_the_function_that_reads_an_operator_takes_emitter_and_operator(entry: TfliteOperator) -> None:
    family, _, name = entry.read.partition(":")
    function = getattr(importlib.import_module(f"mlconv.convert.tflite_import.ops.{family}"), name)
    assert len(inspect.signature(function).parameters) == 2


def test_no_operator_is_in_the_table_twice() -> None:
    entries = [entry for family in tflite_operators._FAMILIES for entry in family.OPERATORS]
    assert len(entries) == len({(entry.custom, entry.kind) for entry in entries})


def test_every_builtin_operator_of_the_schema_is_in_the_table_and_no_other() -> None:
    told = {entry.kind for entry in ENTRIES if not entry.custom}
    assert told == set(schema.BUILTIN_OPERATORS) - NO_OPERATORS


def test_an_operator_without_an_onnx_form_says_why() -> None:
    assert [entry.kind for entry in ENTRIES if not entry.read and not entry.limits] == []


def test_what_is_not_exact_says_how_often() -> None:
    assert [entry.kind for entry in ENTRIES if entry.worst_lsb and not entry.limits] == []


def test_the_table_imports_neither_numpy_nor_onnx() -> None:
    program = "import sys, mlconv.formats.tflite_operators; print(sorted({'numpy', 'onnx', 'onnx_ir'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
