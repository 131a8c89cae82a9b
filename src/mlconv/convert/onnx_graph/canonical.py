"""One form for every graph of one structure: the same order, and where names are noise the same names.

tf2onnx writes another order and other names on every run (and keeps another one of two equal constants), so two
conversions of one file differ. The operands of an operator are a list, and so are a graph's outputs: walking from the
outputs, operands first, meets the operators in an order that depends on nothing but the structure.
"""

from __future__ import annotations

from collections.abc import MutableMapping

import onnx_ir as ir

from mlconv.convert.onnx_graph.names import Names, rename
from mlconv.convert.onnx_graph.shapes import inferred
from mlconv.convert.onnx_graph.walk import bodies, operands, subgraphs

_NO_DOMAIN = "ai.onnx"
OWN_PREFIX = "mlconv."
"""Of metadata keys that are mlconv's."""


def canonical(model: ir.Model, names: Names = "kept") -> ir.Model:
    """The model in canonical form; inputs and outputs keep their names and order.

    Operators are in the order of use and those that no output needs are left out, as are weights; opset imports that
    nothing uses are dropped; documentation of single operators and values, where exporters put stack traces and paths,
    is dropped too, but for mlconv's own provenance. Types and shapes of intermediate values are inferred anew.
    """
    model = model.clone()
    for graph in bodies(model):
        _arrange(graph)
        _clean(graph)
    _drop_unused_functions(model)
    rename(model, names)
    if names == "structural":
        model.graph.name, model.graph.doc_string, model.doc_string = "graph", None, None
    model = inferred(model)
    _order_imports(model)
    model.metadata_props.update(_sorted(model.metadata_props))
    return model


# ------------------------------------------------------------------ order


def _arrange(graph: ir.Graph | ir.Function) -> None:
    for node in graph:
        for inner in subgraphs(node):
            _arrange(inner)
    order = _order(graph)
    alive = set(order)
    dead = [node for node in graph if node not in alive]
    graph.remove(list(graph))
    graph.extend(order)
    for node in dead:
        _detach(node)
    if isinstance(graph, ir.Graph):
        _arrange_initializers(graph)


def _order(graph: ir.Graph | ir.Function) -> list[ir.Node]:
    """The graph's operators, operands before users, from the first output to the last; only those that are needed."""
    own = set(graph)
    order: list[ir.Node] = []
    met: set[ir.Node] = set()
    for output in graph.outputs:
        pending = [(producer, False) for producer in _producers([output], own)]
        while pending:
            node, ready = pending.pop()
            if ready:
                order.append(node)
            elif node not in met:
                met.add(node)
                pending.append((node, True))
                pending += [
                    (producer, False)
                    for producer in reversed(_producers(operands(node), own))
                    if producer not in met
                ]
    return order


def _producers(values: list[ir.Value], own: set[ir.Node]) -> list[ir.Node]:
    found = (value.producer() for value in values)
    return [node for node in found if node is not None and node in own]


def _detach(node: ir.Node) -> None:
    for inner in subgraphs(node):
        for nested in inner:
            _detach(nested)
    for index in range(len(node.inputs)):
        node.replace_input_with(index, None)


def _arrange_initializers(graph: ir.Graph) -> None:
    """Weights in the order of first use; those that nothing uses go, but for inputs with a default value."""
    held = set(graph.initializers.values())
    used = dict.fromkeys(value for node in graph for value in operands(node) if value in held)
    used.update(dict.fromkeys(value for value in (*graph.outputs, *graph.inputs) if value in held))
    graph.initializers.clear()
    for value in used:
        graph.initializers.add(value)


def _drop_unused_functions(model: ir.Model) -> None:
    called: set[tuple[str, str, str]] = set()
    pending: list[ir.Graph | ir.Function] = [model.graph]
    while pending:
        for node in ir.traversal.RecursiveGraphIterator(pending.pop()):
            if node.op_identifier() in model.functions and node.op_identifier() not in called:
                called.add(node.op_identifier())
                pending.append(model.functions[node.op_identifier()])
    kept = {key: model.functions[key] for key in sorted(called)}
    model.functions.clear()
    model.functions.update(kept)


# ------------------------------------------------------------------ what is no structure


def _clean(graph: ir.Graph | ir.Function) -> None:
    for holder in (graph, *graph.subgraphs()):
        for value in holder.initializers.values() if isinstance(holder, ir.Graph) else ():
            value.doc_string = None
            value.const_value = value.const_value and _plain(value.const_value)
    for node in ir.traversal.RecursiveGraphIterator(graph):
        for name, attribute in sorted(node.attributes.items()):
            if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
                node.attributes[name] = ir.AttrTensor(name, _plain(attribute.as_tensor()))
            else:
                node.attributes[name] = node.attributes.pop(name)
        node.doc_string = None
        _keep_own(node.metadata_props)
        if node.domain == _NO_DOMAIN:
            node.domain = ""
        for value in (*node.outputs, *(put for inner in subgraphs(node) for put in inner.inputs)):
            value.doc_string = None
            value.metadata_props.clear()
        for inner in subgraphs(node):
            inner.doc_string = None
            inner.metadata_props.clear()
    graph.metadata_props.clear()


def _keep_own(props: MutableMapping[str, str]) -> None:
    """Where a node comes from, as mlconv noted it (``mlconv.tflite``), stays."""
    for key in [key for key in props if not key.startswith(OWN_PREFIX)]:
        del props[key]


def _plain(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """The same numbers as raw bytes: protobuf has several ways to write a tensor."""
    if (
        not isinstance(tensor, ir.TensorProtoTensor)
        or tensor.dtype == ir.DataType.STRING
        or tensor.raw.HasField("raw_data")
    ):
        return tensor
    return ir.Tensor(tensor.numpy(), dtype=tensor.dtype, shape=ir.Shape(tensor.shape), name=tensor.name)


def _order_imports(model: ir.Model) -> None:
    """Only domains that something uses, the default one first."""
    used = {"", *(node.domain for node in ir.traversal.RecursiveGraphIterator(model.graph))}
    used |= {
        node.domain
        for function in model.functions.values()
        for node in ir.traversal.RecursiveGraphIterator(function)
    }
    used |= {function.domain for function in model.functions.values()}
    imports = model.graph.opset_imports
    if _NO_DOMAIN in imports:
        imports.setdefault("", imports.pop(_NO_DOMAIN))
    kept = {domain: version for domain, version in sorted(imports.items()) if domain in used}
    imports.clear()
    imports.update(kept)


def _sorted(props: dict[str, str]) -> dict[str, str]:
    kept = dict(sorted(props.items()))
    props.clear()
    return kept
