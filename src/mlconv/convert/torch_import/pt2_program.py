"""The program of a `.pt2`, as JSON that torch can read without running what it says.

Not only pickles run code. torch hands the JSON's text to Python in five places (torch 2.13, _export/serde/serialize.py,
export/_unlift.py, utils/_pytree.py, fx/graph.py): ``sympy.sympify`` evaluates ``expr_str``; ``guards_code`` is
compiled and run; names of nodes become source text of the graph's ``forward``; an operator's name is looked up as
attributes of ``torch``, so that ``torch.hub.load`` is an operator too; and a tree's context can name a module to import.
Each is held against what the exporter itself writes. Everything else in the file is numbers.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from mlconv.errors import (
    Corrupt,
    UnsupportedOperator,
    UnsupportedType,
    UntrustedCode,
    UntrustedOperator,
    listed,
)

_IDENTIFIER = re.compile(r"[A-Za-z_]\w{0,500}")
_SYMBOL = re.compile(r"[A-Za-z_]\w{0,100}|[\d.]{1,40}(e[+-]?\d{1,4})?")
_ATTRIBUTE = re.compile(
    r"[\w.@\-/ :+<>\[\]]{0,2000}"
)  # a parameter's name stands between double quotes in the source text
_OPERATOR = re.compile(r"torch\.ops\.(?P<library>\w+)\.(?P<name>\w+)(\.\w+)?")
_SYMBOLIC = re.compile(r"(_operator\.\w+|math\.\w+|torch\.sym_\w+|torch\._sym_\w+)")
_LIBRARIES = frozenset(
    {"aten", "prims", "prim", "higher_order", "quantized", "quantized_decomposed", "torchvision", "torchao"}
)
_FILES = frozenset({"from_file", "save", "load", "load_library", "load_tensor"})
_HIGHER_ORDER = frozenset(
    {
        "cond",
        "while_loop",
        "map",
        "map_impl",
        "scan",
        "associative_scan",
        "wrap_with_set_grad_enabled",
        "wrap_with_autocast",
    }
)
_ARITHMETIC = frozenset(
    {"add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "neg", "pos", "abs", "eq", "ne", "lt", "le", "gt", "ge", "and_",
     "or_", "xor", "not_", "lshift", "rshift", "getitem", "invert", "index", "trunc", "ceil", "floor", "sqrt"}
)  # fmt: skip
_EXPRESSION = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Call, ast.Name, ast.Constant, ast.keyword, ast.Load,
    ast.operator, ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip
_FUNCTIONS = frozenset(
    {"Symbol", "Integer", "Rational", "Float", "Add", "Mul", "Pow", "Max", "Min", "Abs", "Mod", "Eq", "Ne", "Lt", "Le", "Gt", "Ge",
     "Equality", "Unequality", "StrictLessThan", "LessThan", "StrictGreaterThan", "GreaterThan", "And", "Or", "Not", "Xor",
     "Piecewise", "ExprCondPair", "floor", "ceiling", "sqrt", "FloorDiv", "ModularIndexing", "Where", "PythonMod", "CleanDiv",
     "CeilToInt", "FloorToInt", "CeilDiv", "LShift", "RShift", "PowByNatural", "FloatPow", "FloatTrueDiv", "IntTrueDiv",
     "IsNonOverlappingAndDenseIndicator", "TruncToFloat", "TruncToInt", "RoundToInt", "RoundDecimal", "ToFloat", "Identity"}
)  # fmt: skip
_TREES = frozenset(
    {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict", "collections.deque",
     "torch.fx.immutable_collections.immutable_list", "torch.fx.immutable_collections.immutable_dict"}
)  # fmt: skip
_NAMES = frozenset({"as_name", "forward_arg_names", "field_names"})
_KEYED_BY_NAME = frozenset({"tensor_values", "sym_int_values", "sym_bool_values", "sym_float_values"})
_ATTRIBUTES = frozenset(
    {"parameter_name", "buffer_name", "tensor_constant_name", "custom_obj_name", "user_input_name", "fqn"}
)  # fmt: skip


def safe_program(data: bytes, ref: str) -> bytes:
    """The program's JSON without guards and without where it came from, on the CPU.

    Guards repeat the ranges of the axes, which stay; the rest of what is dropped are stack traces and module paths.

    Raises:
        Corrupt: It is not of the schema.
        UntrustedCode: A name, an expression or a tree holds something that torch would evaluate.
        UntrustedOperator: An operator that touches files.
        UnsupportedOperator: Operators of libraries that are not part of torch; all are named.
        UnsupportedType: The signature is made of Python classes of one's own.
    """
    program = json.loads(data)
    if not isinstance(program, dict) or "graph_module" not in program:
        raise Corrupt(f"`{ref}` holds no exported program", fix="save it again with torch.export.save")
    program["guards_code"] = []
    program["range_constraints"] = _ranges_of_symbols(program.get("range_constraints") or {}, ref)
    check = _Check(ref)
    check.walk(program, "")
    check.refuse_foreign()
    return json.dumps(to_cpu(program)).encode()


def _ranges_of_symbols(ranges: dict[str, Any], ref: str) -> dict[str, Any]:
    """The ranges without those of expressions (``4*s0``), which follow from them; torch trips over such a key itself.

    Raises:
        Corrupt: A symbol bears a number that torch would count up to.
    """
    for name in ranges:
        if re.match(r"z?uf?\d{7}", name):
            raise Corrupt(f"`{ref}` has a symbol `{name[:40]}`", fix="save it again with torch.export.save")
    return {name: bounds for name, bounds in ranges.items() if _IDENTIFIER.fullmatch(name)}


def to_cpu(value: Any) -> Any:
    """The same JSON with every device that stands in it changed to the CPU."""
    if isinstance(value, dict):
        return {
            key: {"type": "cpu", "index": None}
            if key in ("device", "as_device") and isinstance(item, dict)
            else to_cpu(item)
            for key, item in value.items()
        }
    return [to_cpu(item) for item in value] if isinstance(value, list) else value


class _Check:
    """One walk over a program."""

    def __init__(self, ref: str) -> None:
        self.ref = ref
        self.foreign: dict[str, None] = {}

    def walk(self, value: Any, key: str) -> None:
        """Check a value that stands under ``key``; nodes lose their metadata, trees are put into a plain form."""
        if isinstance(value, list):
            for item in value:
                self.walk(item, key)
        elif isinstance(value, dict):
            self._walk_dict(value, key)
        elif isinstance(value, str):
            self._text(value, key)

    def _walk_dict(self, value: dict[str, Any], key: str) -> None:
        if "metadata" in value:
            value["metadata"] = {}
        if "class_fqn" in value or "custom_obj" in value:
            raise UntrustedCode(
                f"the program of `{self.ref}` uses an object of a C++ class",
                fix="export a module of tensors alone",
            )
        for field in ("in_spec", "out_spec"):
            if isinstance(value.get(field), str):
                value[field] = self._tree(value[field], field)
        if key in _KEYED_BY_NAME:
            for name in value:
                self._name(name)
        for field, item in value.items():
            self.walk(item, field)

    def _text(self, text: str, key: str) -> None:
        if key == "name" and not text:
            return
        if key == "name" or key in _NAMES:
            self._name(text)
        elif key in _ATTRIBUTES:
            if not _ATTRIBUTE.fullmatch(text):
                self._refuse("the name", text)
        elif key in ("target", "as_operator"):
            self._operator(text)
        elif key == "expr_str":
            self._expression(text)

    def _name(self, text: str) -> None:
        if not _IDENTIFIER.fullmatch(text):
            self._refuse("the name", text)

    def _operator(self, text: str) -> None:
        if match := _OPERATOR.fullmatch(text):
            library, name = match["library"], match["name"]
            if (
                name in _FILES
                or "__globals__" in text
                or (library == "higher_order" and name not in _HIGHER_ORDER)
            ):
                raise UntrustedOperator(
                    f"the program of `{self.ref}` calls `{text}`", why="it reaches beyond the tensors of the program",
                    fix="export the module without that call",
                )  # fmt: skip
            if library not in _LIBRARIES:
                self.foreign[text] = None
        elif not _SYMBOLIC.fullmatch(text) or (
            not text.startswith("torch.") and text.partition(".")[2] not in _ARITHMETIC
        ):
            self._refuse("the operator", text)

    def refuse_foreign(self) -> None:
        if self.foreign:
            names = [name.removeprefix("torch.ops.") for name in self.foreign]
            raise UnsupportedOperator(
                f"{len(names)} operators of `{self.ref}` belong to libraries outside torch: {listed(names)}",
                fix="decompose them before torch.export, or convert the nn.Module itself (FILE.py:NAME)",
            )

    def _expression(self, text: str) -> None:
        """Sizes are sympy's text, e.g. ``2*Symbol('s0', positive=True, integer=True)``."""
        try:
            tree = ast.parse(text.strip(), mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            self._refuse("the size", text)
            return
        symbols = {id(node.args[0]) for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args}
        for node in ast.walk(tree):
            known = isinstance(node, _EXPRESSION)
            if isinstance(node, ast.Call):
                known = isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
            elif isinstance(node, ast.Name):
                known = "__" not in node.id
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                known = id(node) in symbols and bool(_SYMBOL.fullmatch(node.value))
            if not known:
                self._refuse("the size", text)

    def _tree(self, text: str, field: str) -> str:
        version, tree = json.loads(text)
        tree = self._node(tree)
        if field == "in_spec" and len(tree["children_spec"]) == 2:
            for name in json.loads(tree["children_spec"][1]["context"] or "[]"):
                self._name(str(name))  # names of keyword arguments become source text
        return json.dumps([version, tree])

    def _node(self, node: dict[str, Any]) -> dict[str, Any]:
        children = [self._node(child) for child in node["children_spec"]]
        kind, context = node["type"], node["context"]
        if kind not in _TREES:
            # Hugging Face's outputs and other dictionaries of one's own: their context is the list of keys
            keys = json.loads(context) if isinstance(context, str) and context.startswith("[") else None
            if not (
                isinstance(keys, list)
                and len(keys) == len(children)
                and all(isinstance(k, str) for k in keys)
            ):
                raise UnsupportedType(
                    f"an input or output of `{self.ref}` is a `{kind}`",
                    fix="export a module that takes and returns tensors, tuples, lists and dictionaries",
                )
            kind = "builtins.dict"
        if isinstance(context, str) and "__enum__" in context:
            self._refuse("the structure", context)
        if isinstance(context, str):
            for word in _strings(json.loads(context)):
                if not _ATTRIBUTE.fullmatch(word):
                    self._refuse("the key", word)
        return {"type": kind, "context": context, "children_spec": children}

    def _refuse(self, what: str, text: str) -> None:
        raise UntrustedCode(
            f"{what} `{text[:120]}` in `{self.ref}` is not of a kind that torch.export writes",
            why="torch evaluates it as Python while loading",
            fix="save the program again with torch.export.save, or convert the nn.Module itself (FILE.py:NAME)",
        )


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in _strings(part)]
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)]
    return [value] if isinstance(value, str) else []
