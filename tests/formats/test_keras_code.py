"""What Keras would run for a configuration: what needs consent, and what does not."""

from __future__ import annotations

from typing import Any

import pytest

from mlconv.errors import UntrustedCode
from mlconv.formats import keras_code


def layer(kind: str, name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": kind, "name": name, "config": {"name": name, **config}}


def with_layers(*layers: dict[str, Any]) -> dict[str, Any]:
    return {"class_name": "Sequential", "config": {"layers": list(layers)}}


def op_lambda(function: Any, kind: str = "TFOpLambda") -> dict[str, Any]:
    return layer(kind, "op", function=function)


def reference(module: str | None, name: str, **more: Any) -> dict[str, Any]:
    """A serialized function, as the activation of a layer."""
    return layer(
        "Dense", "d", activation={"module": module, "class_name": "function", "config": name, **more}
    )


@pytest.mark.parametrize(
    ("evil", "name"),
    [
        *(
            (op_lambda(name), name)
            for name in [
                *("compat.v1.gfile.MakeDirs", "compat.v1.gfile.Copy", "compat.v1.gfile.Remove"),
                *("compat.v1.gfile.Rename", "compat.v1.gfile.DeleteRecursively", "io.gfile.makedirs"),
                *("keras.utils.get_file", "keras.models.load_model", "keras.utils.save_img", "io.read_file"),
                *("compat.v1.read_file", "numpy_function", "py_function", "print", "raw_ops.ReadFile"),
                *("random.fixed_unigram_candidate_sampler", "nn.fixed_unigram_candidate_sampler"),
                *(
                    "math.add\n",
                    "math",
                    "quantization.experimental.quantize_saved_model",
                    "keras.losses.deserialize",
                    "summary.create_file_writer",
                    "load_library",
                    "keras.backend.function",
                ),
                *("debugging.experimental.enable_dump_debug_info", "keras.backend.set_session"),
            ]
        ),
        (op_lambda(None), "None"),
        (op_lambda("io.write_file", "SlicingOpLambda"), "io.write_file"),
        ({**op_lambda("io.write_file", "X"), "registered_name": "keras>TFOpLambda"}, "io.write_file"),
        (layer("TimeDistributed", "t", layer=op_lambda("io.write_file")), "io.write_file"),
        (layer("ClassMethod", "c", cls_symbol="io.gfile.GFile", method_name="__init__"), "io.gfile.GFile"),
        (layer("InstanceMethod", "m", attr_name="__class__"), "__class__"),
        (layer("InstanceProperty", "p", attr_name="graph"), "graph"),
        (layer("TensorFlowOpLayer", "o", node_def={"op": "WriteFile"}), "WriteFile"),
        (layer("TensorFlowOpLayer", "o", node_def={"op": "EagerPyFunc"}), "EagerPyFunc"),
        (layer("TensorFlowOpLayer", "o", node_def="\n\u0001a"), "TensorFlowOpLayer"),
        (reference("os", "system"), "os.system"),
        (reference("builtins", "eval"), "builtins.eval"),
        (reference("builtins", "x", registered_name="exec"), "builtins.x"),
        (reference("keras.utils", "get_file"), "keras.utils.get_file"),
        (reference("keras.activations", "backend.function"), "keras.activations.backend.function"),
    ],
)
def test_what_is_not_known_to_compute_is_refused_by_its_name(evil: dict[str, Any], name: str) -> None:
    with pytest.raises(UntrustedCode) as caught:
        keras_code.assert_no_code(with_layers(evil), "net.h5")
    assert name in caught.value.what


@pytest.mark.parametrize(
    "harmless",
    [
        *(
            op_lambda(name)
            for name in [
                *(
                    "math.multiply",
                    "__operators__.add",
                    "nn.convolution",
                    "nn.relu6",
                    "image.resize",
                    "concat",
                ),
                *(
                    "reshape",
                    "compat.v1.nn.avg_pool",
                    "compat.v1.image.resize_bilinear",
                    "cast",
                    "clip_by_value",
                ),
                *("compat.v1.transpose", "linalg.matmul", "expand_dims", "math.reduce_mean", "strided_slice"),
                *("keras.activations.swish", "keras.backend.l2_normalize", "compat.v1.depth_to_space"),
            ]
        ),
        op_lambda("__operators__.getitem", "SlicingOpLambda"),
        layer("TensorFlowOpLayer", "o", node_def={"op": "AddV2", "name": "a"}),
        layer("ClassMethod", "c", cls_symbol="RaggedTensor", method_name="from_tensor"),
        layer("InstanceMethod", "m", attr_name="to_tensor"),
        reference("builtins", "relu", registered_name="function"),
        reference("keras.ops", "relu"),
    ],
)
def test_functions_that_compute_on_tensors_need_no_consent(harmless: dict[str, Any]) -> None:
    keras_code.assert_no_code(with_layers(harmless), "net.h5")


def test_what_a_configuration_names_is_told_by_its_own_and_its_registered_name() -> None:
    layer = {
        "class_name": "Scale", "module": "net.layers", "registered_name": "mine>Scale",
        "config": {"name": "s", "activation": {"class_name": "function", "module": "builtins", "config": "bent"}},
    }  # fmt: skip
    config = {
        "class_name": "Sequential", "module": "keras", "registered_name": "Sequential", "config": {"layers": [layer]},
        "compile_config": {"loss": {"class_name": "Loss", "module": "net.losses", "config": {}}},
    }  # fmt: skip
    assert set(keras_code.named(config)) == {
        keras_code.Named("Sequential", "Sequential", "keras"),
        keras_code.Named("Scale", "mine>Scale", "net.layers"),
        keras_code.Named("bent", "bent", "builtins", is_function=True),
    }
    assert [str(named) for named in keras_code.named(config) if named.is_foreign] == [
        "`Scale` (registered as `mine>Scale`)"
    ]


def test_keras_2_imports_no_module_for_a_class_that_is_given_under_the_name_it_looks_up() -> None:
    config = {"class_name": "Net", "module": "theirs", "registered_name": "mine>Net", "config": {}}
    assert keras_code.foreign_modules(config) == ["theirs"]
    assert keras_code.foreign_modules(config, {"Net"}) == ["theirs"]
    assert keras_code.foreign_modules(config, {"mine>Net"}) == []
    assert keras_code.foreign_modules({**config, "registered_name": None}, {"Net"}) == ["theirs"]
