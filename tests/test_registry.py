"""The graph of converters: routes, what is missing, strangers' entry points."""

import importlib.metadata
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlconv import registry
from mlconv.errors import MissingPackage, UnknownConverter
from mlconv.registry import CONVERTERS, RUNNERS, Converter, RunnerSpec, routes

PADDLE = Converter(
    "paddle2onnx", "paddle", "onnx", "mlconv_paddle.job:run", ("no_such_paddle",), "pip install paddle"
)


def test_every_named_function_of_the_tables_exists_where_they_say() -> None:
    root = Path(registry.__file__).parent.parent
    for module, _, function in (
        item.partition(":") for item in {c.run for c in CONVERTERS} | {r.open for r in RUNNERS}
    ):
        text = (root / f"{module.replace('.', '/')}.py").read_text()
        assert f"def {function}(" in text, f"{module}:{function}"


def test_every_accepted_option_is_an_option() -> None:
    from dataclasses import fields

    from mlconv.convert.job import Options
    from mlconv.convert.pipeline import COMMON

    known = {field.name for field in fields(Options)}
    assert COMMON.union(*(converter.accepts for converter in CONVERTERS)) <= known


def test_routes_pass_over_other_formats_where_no_single_converter_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a = Converter("a", "x", "y", "m:f")
    b = Converter("b", "y", "onnx", "m:f")
    back = Converter("back", "y", "x", "m:f")
    direct = Converter("direct", "x", "onnx", "m:f", cost=50)
    monkeypatch.setattr(registry, "converters", lambda: (a, b, back, direct))
    assert [[c.name for c in route] for route in routes("x", "onnx")] == [["a", "b"], ["direct"]]
    assert [[c.name for c in route] for route in routes("x", "onnx", via="direct")] == [["direct"]]
    with pytest.raises(UnknownConverter, match="`driect`") as caught:
        routes("x", "onnx", via="driect")
    assert caught.value.fix == "--via direct"


def test_a_packer_ends_routes_to_what_it_packs_and_is_passed_on_the_way_to_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    convert = Converter("convert", "x", "onnx", "m:f")
    rewrite = Converter("rewrite", "onnx", "onnx", "m:f")
    pack = Converter("pack", "onnx", "ort", "m:f", packs=True, beside=(".list",))
    after = Converter("after", "ort", "z", "m:f")
    monkeypatch.setattr(registry, "converters", lambda: (convert, rewrite, pack, after))
    assert [[c.name for c in route] for route in routes("x", "ort")] == [["convert", "pack"]]
    assert [[c.name for c in route] for route in routes("onnx", "ort")] == [["rewrite", "pack"]]
    assert routes("x", "z") == routes("ort", "ort") == ()
    assert [[c.name for c in route] for route in routes("x", "ort", via="pack")] == [["convert", "pack"]]


def test_every_source_of_onnx_is_one_of_ort() -> None:
    for source in {converter.source for converter in CONVERTERS}:
        assert [route[:-1] for route in routes(source, "ort")] == list(routes(source, "onnx"))


def test_what_is_installed_is_tried_before_what_is_cheaper(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap = Converter("cheap", "x", "onnx", "m:f", ("no_such_package",), cost=1)
    there = Converter("there", "x", "onnx", "m:f", ("json",), cost=9)
    monkeypatch.setattr(registry, "converters", lambda: (cheap, there))
    assert [route[0].name for route in routes("x", "onnx")] == ["there", "cheap"]


def test_a_missing_package_is_named_with_the_command_that_installs_it() -> None:
    with pytest.raises(
        MissingPackage, match="`paddle2onnx` needs `no_such_paddle`, which is not installed"
    ) as caught:
        registry.require(PADDLE)
    assert (caught.value.fix, caught.value.exit) == ("pip install paddle", 5)


def test_either_of_several_packages_will_do() -> None:
    assert registry.absent(("no_such_package|json",)) == ()
    assert registry.absent(("no_such_package|nor_this",)) == ("no_such_package|nor_this",)


def test_another_interpreter_is_asked_for_nothing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    converter = Converter("c", "x", "onnx", "m:f", ("no_such_package",), python="PADDLE")
    monkeypatch.setenv("MLCONV_PYTHON_PADDLE", "/venvs/paddle/bin/python")
    assert converter.interpreter() == "/venvs/paddle/bin/python"
    assert converter.missing() == ()


@pytest.fixture
def strangers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two distributions of other people: one registers a converter, the other breaks."""
    module = types.ModuleType("mlconv_paddle")
    module.CONVERTERS = (PADDLE,)  # type: ignore[attr-defined]
    module.WRONG = ("a string",)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlconv_paddle", module)
    points = [
        importlib.metadata.EntryPoint("paddle", "mlconv_paddle:CONVERTERS", "mlconv.converters"),
        importlib.metadata.EntryPoint("gone", "no_such_module:CONVERTERS", "mlconv.converters"),
        importlib.metadata.EntryPoint("wrong", "mlconv_paddle:WRONG", "mlconv.converters"),
    ]
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda group: [p for p in points if p.group == group]
    )
    registry._plugins.cache_clear()
    yield
    registry._plugins.cache_clear()


@pytest.mark.usefixtures("strangers")
def test_a_stranger_s_converter_stands_beside_ours() -> None:
    assert PADDLE in registry.converters()
    assert [route[0].name for route in routes("paddle", "onnx")] == ["paddle2onnx"]


@pytest.mark.usefixtures("strangers")
def test_a_broken_plugin_is_a_line_and_never_the_end() -> None:
    told = {plugin.name: plugin.reason for plugin in registry.broken_plugins()}
    assert told.keys() == {"gone", "wrong"}
    assert "ModuleNotFoundError" in told["gone"]
    assert "'a string' is no Converter" in told["wrong"]


@pytest.mark.usefixtures("strangers")
def test_plugins_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLCONV_PLUGINS", "off")
    registry._plugins.cache_clear()
    assert registry.converters() == CONVERTERS


def test_the_first_installed_runner_serves_a_format(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = RunnerSpec("gone", ("onnx",), "m:f", ("no_such_package",))
    there = RunnerSpec("there", ("onnx",), "m:f", ("json",))
    monkeypatch.setattr(registry, "runners", lambda: (gone, there))
    assert registry.runner_for("onnx") == there
    assert registry.runner_for("coreml") is None
