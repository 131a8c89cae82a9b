"""What a graph would do in training only: branches that a constant shuts, and the random generators inside them.

A layer that augments images asks at run time whether it trains, and its generator is a variable that cannot become a
constant. So generators stay variables while the others are frozen; then each branch that can never be taken goes, and its
generator with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

_BRANCHES = ("If", "StatelessIf")
_ROUNDS = 20


def freeze_but_generators(freeze: Callable[..., Any]) -> Callable[..., Any]:
    """TensorFlow's ``convert_variables_to_constants_v2``, which leaves variables of random generators as they are."""

    def frozen(func: Any, lower_control_flow: bool = True, aggressive_inlining: bool = False) -> Any:
        from tensorflow.python.framework import convert_to_constants as own

        kept = _generators(func)
        if not kept:
            return freeze(
                func, lower_control_flow=lower_control_flow, aggressive_inlining=aggressive_inlining
            )
        data = own._FunctionConverterDataInEager(  # noqa: SLF001  the only way to its list of exceptions
            func, lower_control_flow, aggressive_inlining, variable_names_denylist=kept
        )
        graph_def, indices = own._replace_variables_by_constants(data)  # noqa: SLF001
        return own._construct_concrete_function(func, graph_def, indices)  # noqa: SLF001

    return frozen


def _generators(func: Any) -> set[str]:
    """Captured variables that an operator takes as they are, neither to read nor to write them."""
    captured = {
        tensor.name.split(":")[0]
        for tensor in func.graph.internal_captures
        if tensor.dtype.name == "resource"
    }
    graph_def = func.graph.as_graph_def()
    library = {function.signature.name: function for function in graph_def.library.function}
    return {name for name in captured if _is_generator(name, graph_def.node, library, set())}


def _is_generator(
    name: str, nodes: Iterable[Any], library: Mapping[str, Any], entered: set[tuple[str, str]]
) -> bool:
    """Whether a handle of this name, among these nodes and in the functions that they call, feeds a random operator."""
    for node in nodes:
        places = [index for index, source in enumerate(node.input) if source.split(":")[0] == name]
        if not places:
            continue
        called = [library[target] for target in _called(node) if target in library]
        if not called and _is_random(node.op):
            return True
        first = 1 if node.op in (*_BRANCHES, "Case") else 0  # the condition comes before the arguments
        for function in called:
            arguments = [argument.name for argument in function.signature.input_arg]
            for place in places:
                step = (function.signature.name, arguments[place - first])
                if step in entered:
                    continue
                entered.add(step)
                if _is_generator(step[1], function.node_def, library, entered):
                    return True
    return False


def _is_random(kind: str) -> bool:
    return kind.startswith(("Rng", "Stateful")) and "PartitionedCall" not in kind


def _called(node: Any) -> list[str]:
    found = []
    for attribute in node.attr.values():
        found += [attribute.func.name, *(function.name for function in attribute.list.func)]
    return [name for name in found if name]


# ------------------------------------------------------------------ branches


def without_shut_branches(graph_def: Any, inline: Callable[[Any], Any]) -> Any:
    """The graph in which each branch that a constant decides is the branch taken.

    Args:
        inline: Opens function calls and folds constants: what was inside a branch may decide the next.
    """
    for _ in range(_ROUNDS):
        if not _take_decided(graph_def):
            break
        graph_def = inline(graph_def)
    return graph_def


def _take_decided(graph_def: Any) -> int:
    """Make calls of the decided branches, in place, in the graph and its functions; how many there were."""
    bodies = [graph_def.node, *(function.node_def for function in graph_def.library.function)]
    return sum(_take_decided_of(body) for body in bodies)


def _take_decided_of(body: Iterable[Any]) -> int:
    nodes = {node.name: node for node in body}
    count = 0
    for node in nodes.values():
        if node.op not in _BRANCHES:
            continue
        decided = _decided(node.input[0], nodes, set())
        if decided is None:
            continue
        branch = node.attr["then_branch" if decided else "else_branch"].func
        kinds = node.attr["Tin"], node.attr["Tout"]
        kept = list(node.input[1:])
        del node.input[:]
        node.input.extend(kept)
        node.op = "PartitionedCall" if node.op == "StatelessIf" else "StatefulPartitionedCall"
        made = type(node)()
        made.attr["f"].func.CopyFrom(branch)
        for name, kind in zip(("Tin", "Tout"), kinds, strict=True):
            made.attr[name].CopyFrom(kind)
        node.attr.clear()
        for name, value in made.attr.items():
            node.attr[name].CopyFrom(value)
        count += 1
    return count


def _decided(tensor: str, nodes: Mapping[str, Any], entered: set[str]) -> bool | None:
    """What a condition comes to, whatever the inputs are; None where they decide."""
    node = nodes.get(tensor.removeprefix("^").split(":")[0])
    if node is None or node.name in entered:
        return None
    entered = entered | {node.name}
    sides = [_decided(source, nodes, entered) for source in node.input if not source.startswith("^")]
    match node.op:
        case "Const":
            return _truth(node)
        case "Identity" | "StopGradient":
            return sides[0]
        case "LogicalNot":
            return None if sides[0] is None else not sides[0]
        case "LogicalAnd":
            return False if False in sides else True if sides == [True, True] else None
        case "LogicalOr":
            return True if True in sides else False if sides == [False, False] else None
        case "All" | "Any":
            return _of_several(node, nodes, entered)
        case _:
            return None


def _of_several(node: Any, nodes: Mapping[str, Any], entered: set[str]) -> bool | None:
    """``tf.reduce_all((training, ...))``: one of them may settle it."""
    pack = nodes.get(node.input[0].split(":")[0])
    if pack is None or pack.op != "Pack":
        return None
    settles = node.op == "Any"
    parts = [_decided(source, nodes, entered) for source in pack.input if not source.startswith("^")]
    return settles if settles in parts else None if None in parts else not settles


def _truth(node: Any) -> bool | None:
    import tensorflow as tf

    value = tf.make_ndarray(node.attr["value"].tensor)
    return bool(value) if value.size == 1 and value.dtype == bool else None
