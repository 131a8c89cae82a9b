"""What the configuration of a Keras model makes Keras run: Python in the file, and functions that it names.

Keras 2 looks up the function of a ``TFOpLambda`` among all symbols of TensorFlow and Keras, calls it while it loads the
model, and gives it constants out of the file (tf_keras/src/layers/core/tf_op_layer.py, ``_CONSTANT_VALUE`` in
src/engine/functional.py). It imports any module that a serialized function names (``_retrieve_class_or_fn`` in
src/saving/serialization_lib.py). So what is allowed is listed here, and everything else needs consent.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from mlconv.errors import UntrustedCode, listed
from mlconv.formats import graph_operators

Config = dict[str, Any]

_CODE = frozenset({"Lambda", "__lambda__", "lambda", "TorchModuleWrapper", "TFSMLayer"})
"""Marshalled functions; a pickled torch module; a SavedModel of another folder. Keras's ``safe_mode`` refuses the same."""

_OWN_PACKAGES = ("keras", "tf_keras", "tensorflow", "keras_hub", "keras_nlp", "keras_cv", "builtins")

_TENSOR_FUNCTIONS = re.compile(
    r"(?:compat\.v[12]\.)?(?:"
    r"(?:math|nn|linalg|image|signal|strings|bitwise|sparse|ragged|sets|random|quantization|dtypes|__operators__)\.\w+"
    r"|(?:math\.special|(?:nn|linalg|random)\.experimental)\.\w+"
    r"|debugging\.(?:assert_\w+|check_numerics)"
    r"|(?:reduce|segment|sparse_reduce|sparse_segment|tensor_scatter_nd|unsorted_segment|matrix|random|logical)_\w+"
    r"|abs|acosh?|add(?:_n)?|arg(?:max|min|sort)|asinh?|atan[2h]?|batch_(?:gather|to_space(?:_nd)?)|bitcast|boolean_mask"
    r"|broadcast_(?:dynamic_shape|static_shape|to)|cast|ceil|clip_by_(?:average_norm|global_norm|norm|value)|complex|concat"
    r"|constant|convert_to_tensor|cosh?|cross|cum(?:sum|prod)|depth_to_space|diag(?:_part)?|digamma|div(?:ide|_no_nan)?"
    r"|dynamic_(?:partition|stitch)|edit_distance|eig(?:vals)?|einsum|ensure_shape|equal|erfc?|exp|expand_dims|expm1"
    r"|extract_(?:image|volume)_patches|eye|fill|floor(?:_?div|mod)?|gather(?:_nd)?|greater(?:_equal)?"
    r"|histogram_fixed_width|identity(?:_n)?|is_(?:finite|inf|nan)|less(?:_equal)?|lgamma|linspace|log(?:1p|_sigmoid)?"
    r"|matmul|maximum|meshgrid|minimum|mod|multiply|multinomial|neg|negative|norm|not_equal|one_hot|ones(?:_like)?|pad"
    r"|parallel_stack|pow|range|rank|realdiv|reciprocal|repeat|reshape|reverse(?:_sequence|_v2)?|rint|roll|round|rsqrt"
    r"|saturate_cast|scalar_mul|scatter_nd|searchsorted|sequence_mask|shape(?:_n)?|sigmoid|sign|sinh?|size|slice|sort"
    r"|space_to_(?:batch(?:_nd)?|depth)|split|sqrt|square|squared_difference|squeeze|stack|stop_gradient|strided_slice"
    r"|subtract|tanh?|tensordot|tile|to_(?:bfloat16|double|float|int32|int64)|trace|transpose|true_?div|truncated_normal"
    r"|truncate(?:div|mod)|tuple|unique(?:_with_counts)?|unravel_index|unstack|where(?:_v2)?|zeros(?:_like)?"
    r"|(?:tf_)?keras\.(?:activations|losses|metrics)\.(?!get$|(?:de)?serialize)\w+"
    r"|(?:tf_)?keras\.backend\.(?:abs|all|any|arange|arg(?:max|min)|batch_(?:dot|flatten|normalization)|bias_add"
    r"|(?:binary|categorical|sparse_categorical)_(?:focal_)?crossentropy|cast(?:_to_floatx)?|clip|concatenate|constant"
    r"|conv[123]d(?:_transpose)?|cos|cum(?:prod|sum)|depthwise_conv2d|dot|dropout|elu|equal|exp|expand_dims|eye|flatten"
    r"|gather|greater(?:_equal)?|hard_sigmoid|identity|int_shape|l2_normalize|less(?:_equal)?|log|max(?:imum)?|mean"
    r"|min(?:imum)?|ndim|not_equal|one_hot|ones(?:_like)?|permute_dimensions|pool[23]d|pow|prod|random_\w+|relu"
    r"|repeat(?:_elements)?|reshape|resize_(?:images|volumes)|reverse|round|separable_conv2d|shape|sigmoid|sign|sin"
    r"|softmax|softplus|softsign|spatial_[23]d_padding|sqrt|square|squeeze|stack|std|stop_gradient|sum|switch|tanh"
    r"|temporal_padding|tile|to_dense|transpose|truncated_normal|var|zeros(?:_like)?)"
    r")"
)
"""Names of TensorFlow's public API, and of Keras's, that compute on tensors and touch nothing else."""

_READS_A_FILE = re.compile(r"(?:.*\.)?fixed_unigram_candidate_sampler")
"""Its ``vocab_file``: of all functions so named in TensorFlow 2.21 the one with a parameter for a path."""

_PROPERTIES = frozenset(
    {
        *(
            "values",
            "flat_values",
            "row_splits",
            "nested_row_splits",
            "indices",
            "dense_shape",
            "value_rowids",
        ),
        *("nrows", "row_starts", "row_limits", "row_lengths", "nested_row_lengths", "bounding_shape"),
        *("with_values", "with_flat_values", "with_row_splits_dtype", "merge_dims", "to_tensor", "to_sparse"),
    }
)
"""Members of ragged and sparse tensors for which Keras 2 makes layers (tf_op_layer.py, ``_delegate_property``)."""

_OPERATORS = (
    graph_operators.PYTHON | graph_operators.FILES | graph_operators.NETWORK | graph_operators.CHECKPOINTS
) | {"InitializeTableFromTextFile", "InitializeTableFromTextFileV2", "PrintV2"}

_FUNCTION_MODULES = re.compile(
    r"(?:tf_)?keras\.(?:src\.)?(?:activations|constraints|initializers|losses|metrics|ops|regularizers)(?:\.\w+)*"
)


_ACTIVATIONS = ("activation", "recurrent_activation")
"""Keys under which a layer names a function by a bare text, as HDF5 files do."""


@dataclass(frozen=True, slots=True)
class Named:
    """A class or function that a configuration names, for Keras to find.

    Attributes:
        name: As its author called it.
        registered: As Keras looks it up: ``package>name`` where the author registered it, else the name.
        module: Where it was defined; None where the file does not say, as HDF5 files do not.
    """

    name: str
    registered: str
    module: str | None = None
    is_function: bool = False

    @property
    def is_foreign(self) -> bool:
        """Whether the file itself tells that it is not one of Keras's."""
        return ">" in self.registered or (
            self.module not in (None, "builtins") and not _is_own(str(self.module))
        )

    def __str__(self) -> str:
        return f"`{self.name}`" + (
            f" (registered as `{self.registered}`)" if self.registered != self.name else ""
        )


def assert_no_code(config: Config, ref: str) -> None:
    """Refuse a configuration for which Keras would run Python of the file, or call what is not known to be harmless.

    Raises:
        UntrustedCode: All layers and functions are named.
    """
    layers, functions = marshalled(config), calls(config)
    if layers or functions:
        raise UntrustedCode(
            f"`{ref}` carries Python code in {listed(layers)}" if layers
            else f"`{ref}` calls functions that may reach out of the model: {listed(functions)}",
            why="Keras would run it as it loads the model",
            fix="--trust-model, if you know who made it; better: model.export('folder') where it was made, and convert the folder",
        )  # fmt: skip


def marshalled(config: Config) -> list[str]:
    """Layers whose configuration carries Python bytecode, or a pickle, that loading would run."""
    return sorted({layer_name(layer) for layer, value in values_by_layer(config) if _CODE & _kinds(value)})


def calls(config: Config) -> list[str]:
    """What a configuration names to be called that is not known to compute on tensors alone."""
    return sorted({name for _, value in values_by_layer(config) for name in _called(value)})


def custom_classes(config: Config) -> list[str]:
    """Classes that Keras itself does not have, as its configuration tells: registered ones, or of another module."""
    found = set()
    for _, value in values_by_layer(config):
        registered, module = value.get("registered_name"), value.get("module")
        foreign = isinstance(module, str) and not _is_own(module)
        if "class_name" in value and (foreign or (isinstance(registered, str) and ">" in registered)):
            found.add(str(value["class_name"]))
    return sorted(found)


def foreign_modules(config: Config, given: Collection[str] = ()) -> list[str]:
    """Modules other than Keras's that Keras 2 would import, for classes that it finds under no name.

    Args:
        given: Names under which it finds classes and functions of the user's.
    """
    modules = set()
    for _, value in values_by_layer(config):
        module = value.get("module")
        key = value.get("config") if value.get("class_name") == "function" else value.get("registered_name")
        if isinstance(module, str) and not _is_own(module) and not (isinstance(key, str) and key in given):
            modules.add(module)
    return sorted(modules)


def named(config: Config) -> tuple[Named, ...]:
    """Every class and function that a configuration names, Keras's own among them, each once.

    What it was trained with, ``compile_config``, is left out: nothing here loads it.
    """
    found: dict[Named, None] = {}
    network = {key: value for key, value in config.items() if key != "compile_config"}
    for _, value in values_by_layer(network):
        kind, body, module = value.get("class_name"), value.get("config"), value.get("module")
        place = module if isinstance(module, str) else None
        if kind == "function" and isinstance(body, str):
            found[Named(body.rpartition(">")[2], body, place, is_function=True)] = None
        elif isinstance(kind, str) and kind != "function" and not kind.startswith("__") and "config" in value:
            registered = value.get("registered_name")
            told = registered if isinstance(registered, str) else kind
            found[Named(kind.rpartition(">")[2], told, place)] = None
        for key in _ACTIVATIONS:
            if isinstance(value.get(key), str):
                function = value[key]
                found[Named(function.rpartition(">")[2], function, is_function=True)] = None
    return tuple(found)


def layer_name(layer: Config) -> str:
    body = layer.get("config")
    name = layer.get("name") or (body.get("name") if isinstance(body, dict) else None)
    return str(name or layer.get("class_name") or "?")


def values_by_layer(config: Config) -> Iterator[tuple[Config, Config]]:
    """Every object of a configuration, with the nearest layer around it; without recursion, however deep it nests."""
    rest: list[tuple[Config, Any]] = [(config, config)]
    while rest:
        layer, value = rest.pop()
        if isinstance(value, dict):
            body = value.get("config")
            named = value.get("name") or (body.get("name") if isinstance(body, dict) else None)
            layer = value if named and "class_name" in value else layer
            yield layer, value
            rest += [(layer, item) for item in value.values()]
        elif isinstance(value, list):
            rest += [(layer, item) for item in value]


def _is_own(module: str) -> bool:
    return module.partition(".")[0] in _OWN_PACKAGES


def _kinds(value: Config) -> set[str]:
    """Under what class names Keras may look for an object."""
    told = (value.get(key) for key in ("class_name", "function_type", "output_shape_type", "mask_type"))
    kinds = {name for name in told if isinstance(name, str)}
    registered = value.get("registered_name")
    return {name.rpartition(">")[2] for name in (*kinds, registered) if isinstance(name, str)}


def _called(value: Config) -> Iterator[str]:
    """Functions, methods and operators that one object of a configuration names, where they are not harmless."""
    kinds = _kinds(value)
    body = value.get("config")
    inner = body if isinstance(body, dict) else {}
    if kinds & {"TFOpLambda", "SlicingOpLambda"} and not _computes(inner.get("function")):
        yield str(inner.get("function"))
    method = f"{inner.get('cls_symbol')}.{inner.get('method_name')}"
    if "ClassMethod" in kinds and not re.fullmatch(r"RaggedTensor\.from_\w+", method):
        yield method
    if kinds & {"InstanceMethod", "InstanceProperty"} and inner.get("attr_name") not in _PROPERTIES:
        yield str(inner.get("attr_name"))
    if "TensorFlowOpLayer" in kinds and not _is_harmless_node(inner.get("node_def")):
        node = inner.get("node_def")
        yield str(node.get("op")) if isinstance(node, dict) else "TensorFlowOpLayer"
    if value.get("class_name") == "function" and not _is_harmless_reference(value):
        yield f"{value.get('module')}.{body}"


def _computes(function: Any) -> bool:
    return (
        isinstance(function, str)
        and _TENSOR_FUNCTIONS.fullmatch(function) is not None
        and not _READS_A_FILE.fullmatch(function)
    )


def _is_harmless_node(node: Any) -> bool:
    """A NodeDef as JSON with an operator that stays inside of the model; as bytes in a text it is not read."""
    return isinstance(node, dict) and isinstance(node.get("op"), str) and node["op"] not in _OPERATORS


def _is_harmless_reference(value: Config) -> bool:
    """A serialized function: one of Keras's by its name, or the author's own, which no name leads to.

    Functions of Keras's own are written as those of ``builtins``; where it has none of the name, Keras 2 takes Python's.
    """
    names = [name for name in (value.get("config"), value.get("registered_name")) if isinstance(name, str)]
    module = value.get("module")
    if not all(re.fullmatch(r"[\w>]+", name) for name in names):
        return False
    if module == "builtins":
        return not any(hasattr(builtins, name) for name in names)
    return module is None or (isinstance(module, str) and _FUNCTION_MODULES.fullmatch(module) is not None)
