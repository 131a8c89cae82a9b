"""Functions of a SavedModel's root object, encoded here by hand after struct.proto and saved_object_graph.proto."""

from __future__ import annotations

import pytest

from mlconv.formats import saved_functions
from mlconv.formats.protobuf import WireError
from mlconv.formats.saved_functions import Function, Tensor
from mlconv.tensors import TensorSpec


def varint(value: int) -> bytes:
    found = b""
    while value > 0x7F:
        found += bytes([value & 0x7F | 0x80])
        value >>= 7
    return found + bytes([value])


def field(number: int, content: bytes | int | str) -> bytes:
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    data = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(data)) + data


def entry(key: str, content: bytes) -> bytes:
    return field(1, key) + field(2, content)


def tensor(*sizes: int) -> bytes:
    """A TensorSpecProto of float32; -1 is an open axis."""
    shape = b"".join(field(2, field(1, size % (1 << 64))) for size in sizes)
    return field(33, field(1, "ignored") + field(2, shape) + field(3, 1))


def several(*items: bytes) -> bytes:
    return field(52, b"".join(field(1, item) for item in items))


def mapping(**items: bytes) -> bytes:
    return field(53, b"".join(field(1, entry(key, item)) for key, item in items.items()))


TRUE, NONE = field(14, 1), field(1, b"")


def text(value: str) -> bytes:
    return field(13, value)


def graph(
    parameters: list[str], *traced: tuple[bytes, bytes], method: bool = True, name: str = "__call__"
) -> memoryview:
    """A root object with one function, traced for each pair of canonical arguments and results."""
    names = field(51, b"".join(field(1, text(parameter)) for parameter in parameters))
    spec = field(1, field(54, field(2, entry("args", names)))) + field(2, int(method))
    called = b"".join(field(1, f"trace_{index}") for index in range(len(traced)))
    root = field(1, field(1, 1) + field(2, name))
    made = b"".join(
        field(2, entry(f"trace_{i}", field(3, a) + field(4, r))) for i, (a, r) in enumerate(traced)
    )
    return memoryview(field(1, root) + field(1, field(6, called + field(2, spec))) + made)


def only(found: dict[str, Function]) -> Function:
    (function,) = found.values()
    return function


def test_a_tensor_is_named_by_its_parameter_and_a_plain_value_stays_itself() -> None:
    arguments = several(several(tensor(-1, 4), field(12, 5)), mapping(training=NONE))
    function = only(saved_functions.read(graph(["self", "x", "steps"], (arguments, tensor(-1, 3)))))
    assert (function.name, function.parameters) == ("__call__", ("x", "steps"))
    (traced,) = function.traced
    assert traced.inputs == (TensorSpec("x", (None, 4), "float32"),)
    assert traced.outputs == (TensorSpec("output_0", (None, 3), "float32"),)
    assert traced.arguments == ((Tensor(0), -3), {"training": None})  # 5 is -3 as a sint64


def test_nests_are_flattened_as_tensorflow_does_dictionaries_by_key() -> None:
    pair = mapping(b=tensor(1), a=several(tensor(2), tensor(3)))
    results = mapping(z=tensor(5), y=mapping(in_=tensor(6)))
    function = only(
        saved_functions.read(graph(["given"], (several(several(pair), mapping()), results), method=False))
    )
    (traced,) = function.traced
    assert [(spec.name, spec.shape) for spec in traced.inputs] == [("a_0", (2,)), ("a_1", (3,)), ("b", (1,))]
    assert [(spec.name, spec.shape) for spec in traced.outputs] == [("y_in_", (6,)), ("z", (5,))]
    assert traced.arguments == (({"a": (Tensor(0), Tensor(1)), "b": Tensor(2)},), {})


def test_a_form_for_training_is_no_choice_where_there_is_another() -> None:
    forms = [(several(several(tensor(4), value), mapping()), tensor(4)) for value in (TRUE, field(14, 0))]
    function = only(saved_functions.read(graph(["x", "training"], *forms, method=False)))
    assert [traced.trains for traced in function.traced] == [True, False]
    assert function.forms == function.traced[1:]


def test_a_ragged_argument_makes_a_form_unusable() -> None:
    ragged = field(34, field(1, 1))
    function = only(
        saved_functions.read(graph(["x"], (several(several(ragged), mapping()), tensor(4)), method=False))
    )
    assert function.traced
    assert function.forms == ()


def test_a_function_that_was_never_called_has_no_form() -> None:
    assert only(saved_functions.read(graph(["x"]))).traced == ()


def test_arguments_that_nest_without_end_are_refused() -> None:
    value = tensor(1)
    for _ in range(100):
        value = several(value)
    with pytest.raises(WireError, match="nest"):
        saved_functions.read(graph(["x"], (several(value, mapping()), tensor(1))))


def test_a_child_that_leads_nowhere_is_passed_over() -> None:
    root = field(1, field(1, 9) + field(2, "f"))
    assert saved_functions.read(memoryview(field(1, root))) == {}
