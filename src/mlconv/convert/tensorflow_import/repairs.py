"""What tf2onnx 1.17 lacks or gets wrong, put right in its own tables of handlers.

Each entry names the defect. Those that change an answer without a word are covered by a test that fails without it.
"""

from __future__ import annotations

from typing import Any


def install() -> None:
    """Register the repaired handlers; a second call changes nothing."""
    import tf2onnx.tfonnx  # noqa: F401  (its import is what fills the tables)
    from tf2onnx.handler import tf_op

    registered = tf_op.get_opsets()["com.google.tensorflow"][0]
    if registered["TFL_FULLY_CONNECTED"][0].__name__ == "fully_connected":
        return
    tf_op.register_handler(erfc, 9, ["Erfc"], "", {})
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
