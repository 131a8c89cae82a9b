"""What tf2onnx 1.17 lacks or gets wrong, put right in its own tables of handlers.

Each entry names the defect. Those that change an answer without a word are covered by a test that fails without it.
"""

from __future__ import annotations

from typing import Any

from mlconv.convert.tensorflow_import.branches import freeze_but_generators


def install() -> None:
    """Register the repaired handlers; a second call changes nothing."""
    import tf2onnx.tfonnx  # noqa: F401  (its import is what fills the tables)
    from tf2onnx import tf_loader
    from tf2onnx.handler import tf_op

    registered = tf_op.get_opsets()["com.google.tensorflow"][0]
    if registered["TFL_FULLY_CONNECTED"][0].__name__ == "fully_connected":
        return
    tf_loader.convert_variables_to_constants_v2 = freeze_but_generators(
        tf_loader.convert_variables_to_constants_v2
    )
    tf_op.register_handler(erfc, 9, ["Erfc"], "", {})
    tf_op.register_handler(bucketize, 9, ["Bucketize"], "", {})
    lookups = tf_op.get_opsets()[""][8]
    original, options = lookups["LookupTableFindV2"]
    tf_op.register_handler(_lookup_of_numbers(original), 8, ["LookupTableFindV2"], "", options)
    for name, repair in (("TFL_FULLY_CONNECTED", fully_connected), ("TFL_SOFTMAX", softmax)):
        original, options = registered[name]
        tf_op.register_handler(_before(original, repair), 0, [name], "com.google.tensorflow", options)


def _before(original: Any, repair: Any) -> Any:
    def handler(ctx: Any, node: Any, **options: Any) -> None:
        repair(ctx, node)
        original(ctx, node, **options)

    handler.__name__ = repair.__name__
    return handler


def erfc(ctx: Any, node: Any, **_: Any) -> None:
    """``Erfc`` has no handler, and Keras writes the exact GELU with it: ``1 - Erf(x)``."""
    import numpy as np
    from tf2onnx import utils

    output, dtype, shape = node.output[0], ctx.get_dtype(node.output[0]), ctx.get_shape(node.output[0])
    one = ctx.make_const(utils.make_name("one"), np.array(1, dtype=utils.map_onnx_to_numpy_type(dtype)))
    source = node.input[0]
    ctx.remove_node(node.name)
    erf = ctx.make_node("Erf", [source], dtypes=[dtype], shapes=[shape])
    ctx.make_node(
        "Sub",
        [one.output[0], erf.output[0]],
        outputs=[output],
        name=node.name,
        dtypes=[dtype],
        shapes=[shape],
    )


def bucketize(ctx: Any, node: Any, **_: Any) -> None:
    """``Bucketize`` (Keras's Discretization) has no handler: how many boundaries are not greater than x.

    What is not less is counted, and so NaN falls behind the last boundary, as in TensorFlow.
    """
    import numpy as np
    from onnx import TensorProto
    from tf2onnx import utils
    from tf2onnx.graph_builder import GraphBuilder

    source, output, shape = node.input[0], node.output[0], ctx.get_shape(node.output[0])
    kind = TensorProto.DOUBLE if ctx.get_dtype(source) == TensorProto.DOUBLE else TensorProto.FLOAT
    told = np.array(node.get_attr("boundaries").floats, utils.map_onnx_to_numpy_type(kind))
    ctx.remove_node(node.name)
    builder = GraphBuilder(ctx)
    real = ctx.make_node("Cast", [source], attr={"to": kind}, dtypes=[kind], shapes=[shape]).output[0]
    column = builder.make_unsqueeze({"data": real, "axes": [-1]})
    boundaries = ctx.make_const(utils.make_name("boundaries"), told).output[0]
    less = ctx.make_node("Less", [column, boundaries], dtypes=[TensorProto.BOOL]).output[0]
    passed = ctx.make_node("Not", [less], dtypes=[TensorProto.BOOL]).output[0]
    ones = ctx.make_node("Cast", [passed], attr={"to": TensorProto.INT32}, dtypes=[TensorProto.INT32]).output[
        0
    ]
    builder.make_reduce_sum({"data": ones, "axes": [-1], "keepdims": 0, "noop_with_empty_axes": 0, "outputs": [output]},
                            name=node.name, dtypes=[TensorProto.INT32], shapes=[shape])  # fmt: skip


def _lookup_of_numbers(original: Any) -> Any:
    """Tables between numbers (Keras's IntegerLookup), which tf2onnx refuses, as the LabelEncoder of ONNX; others as ever."""

    def handler(ctx: Any, node: Any, initialized_tables: Any, **options: Any) -> None:
        keys, values = (_kept_as(ctx.get_dtype(name)) for name in (node.input[1], node.output[0]))
        if {keys, values} == {"string", "int64"} or None in (keys, values) or node.inputs[1].is_const():
            original(ctx, node, initialized_tables=initialized_tables, **options)
            return
        lookup(ctx, node, initialized_tables, str(keys), str(values))

    return handler


def _kept_as(dtype: int) -> str | None:
    """As what a LabelEncoder holds numbers or text of an ONNX type."""
    from onnx import TensorProto

    kinds = {
        "string": (TensorProto.STRING,),
        "int64": (TensorProto.INT64, TensorProto.INT32),
        "float": (TensorProto.FLOAT,),
    }
    return next((kind for kind, types in kinds.items() if dtype in types), None)


def lookup(ctx: Any, node: Any, tables: Any, keys: str, values: str) -> None:
    """``LookupTableFindV2`` as a LabelEncoder, with casts where the table's integers are of 32 bits."""
    from onnx import TensorProto
    from tf2onnx import constants, utils

    table = node.inputs[0]
    while table.type == "Identity":
        table = table.inputs[0]
    name = table.get_attr_value("shared_name")
    utils.make_sure(
        name in tables and node.inputs[2].is_const(), "a lookup table that is filled while the model runs"
    )
    given, made = tables[name]
    fallback = node.inputs[2].get_tensor_value()
    attributes = {
        f"keys_{keys}s": list(given),
        f"values_{values}s": list(made),
        f"default_{values}": fallback,
    }
    types = {"string": TensorProto.STRING, "int64": TensorProto.INT64, "float": TensorProto.FLOAT}
    source, output, shape = node.input[1], node.output[0], ctx.get_shape(node.output[0])
    wanted = ctx.get_dtype(output)
    ctx.remove_node(node.name)
    key = ctx.make_node("Cast", [source], attr={"to": types[keys]}, dtypes=[types[keys]], shapes=[shape])
    found = ctx.make_node("LabelEncoder", key.output, domain=constants.AI_ONNX_ML_DOMAIN, attr=attributes,
                          dtypes=[types[values]], shapes=[shape])  # fmt: skip
    ctx.make_node(
        "Cast",
        found.output,
        attr={"to": wanted},
        outputs=[output],
        name=node.name,
        dtypes=[wanted],
        shapes=[shape],
    )


def fully_connected(ctx: Any, node: Any) -> None:
    """Flatten an input whose rank is not 2: where tf2onnx does (tfl_math.py:215), it drops the bias."""
    import numpy as np
    from tf2onnx import utils

    if node.get_attr_value("keep_num_dims") or ctx.get_rank(node.input[0]) == 2:
        return
    columns = ctx.get_shape(node.input[1])[1]
    shape = ctx.make_const(utils.make_name("rows"), np.array([-1, columns], np.int64))
    rows = ctx.make_node("Reshape", [node.input[0], shape.output[0]], dtypes=[ctx.get_dtype(node.input[0])],
                         shapes=[[-1, columns]])  # fmt: skip
    rows.skip_conversion = True
    ctx.replace_inputs(node, [rows.output[0], *node.input[1:]])


def softmax(ctx: Any, node: Any) -> None:
    """``beta`` scales what softmax takes; tf2onnx multiplies what it gives."""
    import numpy as np
    from tf2onnx import utils

    beta = node.get_attr_value("beta")
    if beta == 1:
        return
    factor = ctx.make_const(utils.make_name("beta"), np.array(beta, np.float32))
    scaled = ctx.make_node("Mul", [node.input[0], factor.output[0]], dtypes=[ctx.get_dtype(node.input[0])],
                           shapes=[ctx.get_shape(node.input[0])])  # fmt: skip
    scaled.skip_conversion = True
    ctx.replace_inputs(node, [scaled.output[0]])
    node.set_attr("beta", 1.0)
