"""PyTorch to ONNX: every kind of source, shape and failure, on networks of a few thousand parameters."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

import torch  # noqa: E402

from mlconv.checks.samples import draw  # noqa: E402
from mlconv.convert.job import Converted, Job, Options  # noqa: E402
from mlconv.convert.torch_import import ref as torch_ref  # noqa: E402
from mlconv.convert.torch_import.inputs import signature  # noqa: E402
from mlconv.convert.torch_to_onnx import run  # noqa: E402
from mlconv.errors import (  # noqa: E402
    BadInputOption,
    ConverterFailed,
    DataDependentControlFlow,
    LeavesTensors,
    OpsetOutOfReach,
    ShapesNeeded,
    UnknownInput,
    UnknownOutput,
    UnsupportedOperator,
    UnsupportedType,
    UserCodeRaised,
)
from mlconv.formats import ModelFile  # noqa: E402
from mlconv.input_grammar import parse_input  # noqa: E402
from mlconv.tensors import axes_of  # noqa: E402

pytestmark = [pytest.mark.framework("torch"), pytest.mark.filterwarnings("ignore")]
NETS = Path(__file__).with_name("torch_nets.py")
ATOL = 1e-5  # single precision; the networks' outputs are of order 1


def ref(name: str) -> str:
    return f"{NETS}:{name}"


def convert(
    folder: Path, source: str, *inputs: str, format_: str = "torch-module", **options: Any
) -> tuple[Converted, Path]:
    folder.mkdir(exist_ok=True)
    path = NETS if format_ == "torch-module" else Path(source)
    model = ModelFile(source, path, format_)  # type: ignore[arg-type]
    job = Job(
        model, "onnx", folder / "m.onnx", folder, Options(input=tuple(map(parse_input, inputs)), **options)
    )
    return run(job), job.output


def assert_same(made: Converted, path: Path, *inputs: str) -> onnx.ModelProto:
    """ONNX Runtime gives what the source gives at three sizes of every axis, under the same names."""
    onnx.checker.check_model(str(path), full_check=True)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [v.name for v in session.get_inputs()] == [s.name for s in made.inputs]
    assert [v.name for v in session.get_outputs()] == [s.name for s in made.outputs]
    axes = axes_of(made.inputs, tuple(map(parse_input, inputs)))
    for index in range(3):
        sizes = {name: (axis.sizes() * 3)[index] for name, axis in axes.items()}
        feeds = draw(made.inputs, sizes, 7, index, kind="normal").feeds
        wanted = made.reference.run(feeds)
        for name, found in zip(wanted, session.run(None, feeds), strict=True):
            assert (found.shape, found.dtype) == (wanted[name].shape, wanted[name].dtype), name
            np.testing.assert_allclose(found, wanted[name], rtol=1e-4, atol=ATOL, err_msg=name)
    return onnx.load(path)


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("Residual", ["image=batch,3,16,16"]),
        ("Recurrent", ["x=batch,5,4"]),
        ("Recurrent('GRU')", ["x=batch,5,4"]),
        ("Attention", ["query=batch,tq,8", "memory=batch,tm,8"]),
        ("encoder", ["src=batch,time,8"]),
        ("UNet", ["x=batch,3,height=8..32/4,width=8..32/4"]),
        ("Many", ["ids=batch,6:int64", "x=batch,4"]),
        ("instance", ["batch,4"]),
    ],
)
def test_the_dynamo_exporter_converts(tmp_path, name, inputs):
    made, path = convert(tmp_path, ref(name), *inputs)
    model = assert_same(made, path, *inputs)
    assert made.exporter == "torch dynamo exporter"
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)]
    assert made.weights == "constructor"
    assert any("constructor" in warning for warning in made.warnings)


@pytest.mark.parametrize("opset", [11, 17, 23, 26])
def test_the_opset_that_was_asked_for_is_written(tmp_path, opset):
    made, path = convert(tmp_path, ref("Residual"), "batch,3,16,16", opset=opset)
    model = assert_same(made, path)
    assert model.opset_import[0].version == opset


@pytest.mark.parametrize("opset", [13, 17])
def test_attention_below_18_is_lowered_where_the_older_exporter_folds_its_sizes(tmp_path, opset):
    made, path = convert(tmp_path, ref("Attention"), "batch,tq,8", "batch,tm,8", opset=opset)
    assert assert_same(made, path).opset_import[0].version == opset
    assert made.exporter == "torch dynamo exporter"


def test_an_opset_that_has_no_form_of_an_operator_says_so(tmp_path):
    with pytest.raises(OpsetOutOfReach, match="opset 9"):
        convert(tmp_path, ref("encoder"), "batch,time,8", opset=9)


def test_a_dynamic_time_axis_of_an_lstm_needs_the_older_exporter_and_a_warning_says_so(tmp_path):
    made, path = convert(tmp_path, ref("Recurrent"), "x=batch,time,4")
    assert_same(made, path)
    assert made.exporter == "TorchScript exporter"
    assert any("the TorchScript exporter was used" in warning for warning in made.warnings)


def test_inputs_bear_the_parameters_names_and_outputs_their_keys(tmp_path):
    made, path = convert(tmp_path, ref("Many"), "x=batch,4", "mask=batch,4:bool", "ids=batch,6:int64[0..10]")
    assert [spec.name for spec in made.inputs] == ["ids", "x", "mask"]
    assert [spec.name for spec in made.outputs] == ["y", "count", "x_out", "pair_0", "pair_1", "c"]
    assert [spec.shape for spec in made.outputs] == [
        ("batch", 4),
        (),
        ("batch", 4),
        ("batch", 4),
        ("batch",),
        (),
    ]
    assert_same(made, path)


def test_outputs_keeps_what_it_names(tmp_path):
    made, path = convert(tmp_path, ref("Many"), "ids=2,6:int64", "x=2,4", outputs=("pair_1", "count"))
    assert [spec.name for spec in made.outputs] == ["count", "pair_1"]
    assert_same(made, path)


def test_an_output_that_is_not_there_is_named_with_the_nearest(tmp_path):
    with pytest.raises(UnknownOutput) as caught:
        convert(tmp_path, ref("Many"), "ids=2,6:int64", "x=2,4", outputs=("pairs_0",))
    assert caught.value.fix == "--outputs pair_0"


def test_dictionaries_and_tuples_are_named_with_dots(tmp_path):
    inputs = ["batch.a=n,4", "batch.b=n,4", "state.0=4", "state.1=4"]
    made, path = convert(tmp_path, ref("Nested"), *inputs)
    assert [spec.name for spec in made.outputs] == ["first", "second"]
    assert_same(made, path)


def test_variadic_inputs_keep_the_order_of_the_command_line(tmp_path):
    made, path = convert(tmp_path, ref("Variadic"), "minuend=n,4", "subtrahend=n,4")
    assert [spec.name for spec in made.inputs] == ["minuend", "subtrahend"]
    assert_same(made, path)


def test_the_graph_names_its_axes(tmp_path):
    _, path = convert(tmp_path, ref("Attention"), "batch,tq,8", "batch,tm,8")
    graph = onnx.load(path).graph
    shape = [d.dim_param or d.dim_value for d in graph.output[0].type.tensor_type.shape.dim]
    assert shape == ["batch", "tq", 8]


def test_a_branch_on_data_is_refused_with_its_line(tmp_path):
    for opset in (18, 17):
        with pytest.raises(
            DataDependentControlFlow, match=r"torch_nets.py:\d+ `if x.sum\(\) > 0:`"
        ) as caught:
            convert(tmp_path, ref("BranchOnData"), "x=batch,4", opset=opset)
        assert "torch.jit.script" in caught.value.fix


def test_torchscript_keeps_its_branches_and_loops(tmp_path):
    torch.jit.script(torch_ref.build(ref("Scriptable"))).save(tmp_path / "s.pt")
    for opset in (9, 18, 26):
        made, path = convert(tmp_path, str(tmp_path / "s.pt"), "x=n,4", format_="torchscript", opset=opset)
        types = {node.op_type for node in assert_same(made, path).graph.node}
        assert types >= {"If", "Loop"}
        assert made.exporter == "TorchScript exporter"


def test_a_program_brings_its_own_signature(tmp_path):
    batch = torch.export.Dim("batch", min=1, max=8)
    example = (torch.zeros(3, 6, dtype=torch.int64), torch.randn(3, 4))
    program = torch.export.export(
        torch_ref.build(ref("Many")), example, dynamic_shapes={"ids": {0: batch}, "x": {0: batch}}
    )
    torch.export.save(program, tmp_path / "p.pt2")
    for opset in (18, 13):
        made, path = convert(tmp_path, str(tmp_path / "p.pt2"), format_="torch-export", opset=opset)
        assert [(spec.name, spec.shape) for spec in made.inputs] == [
            ("ids", ("batch", 6)),
            ("x", ("batch", 4)),
        ]
        assert_same(made, path)
        assert made.weights is None
    made, path = convert(
        tmp_path, str(tmp_path / "p.pt2"), "ids=2,6:int64", format_="torch-export", outputs=("y",)
    )
    assert [spec.shape for spec in (*made.inputs, *made.outputs)] == [(2, 6), (2, 4), (2, 4)]
    assert_same(made, path)


def test_a_program_with_fixed_axes_cannot_be_made_dynamic(tmp_path):
    program = torch.export.export(torch_ref.build(ref("Residual")), (torch.randn(2, 3, 16, 16),))
    torch.export.save(program, tmp_path / "p.pt2")
    with pytest.raises(BadInputOption, match="fixed shape 2,3,16,16"):
        convert(tmp_path, str(tmp_path / "p.pt2"), "batch,3,16,16", format_="torch-export")


def test_an_axis_that_the_model_holds_to_one_size_is_refused(tmp_path):
    for opset in (18, 17):
        with pytest.raises(ConverterFailed, match="holds the axis `n`"):
            convert(tmp_path, ref("Holds"), "x=n,4", opset=opset)
    made, path = convert(tmp_path, ref("Holds"), "x=2,4")
    assert_same(made, path)


@pytest.mark.parametrize("opset", [17, 18])
def test_a_branch_on_the_size_of_an_axis_is_refused_with_the_range_that_holds(tmp_path, opset):
    with pytest.raises(DataDependentControlFlow, match="`seq` leaves 2 to 16") as caught:
        convert(tmp_path, ref("LongBranch"), "batch,seq,8", opset=opset)
    assert caught.value.fix == "--input x=batch,seq=2..16,8"
    made, path = convert(tmp_path, ref("LongBranch"), "batch,seq=2..16,8", opset=opset)
    assert_same(made, path, "batch,seq=2..16,8")
    with pytest.raises(DataDependentControlFlow, match="`seq` leaves 2 to 16"):
        convert(tmp_path, ref("LongBranch"), "batch,seq=2..17,8", opset=opset)


@pytest.mark.parametrize("opset", [17, 18])
def test_a_range_above_a_branch_keeps_the_upper_one(tmp_path, opset):
    made, path = convert(tmp_path, ref("ShortBranch"), "batch,seq=12..20,8", opset=opset)
    assert_same(made, path, "batch,seq=12..20,8")
    with pytest.raises(DataDependentControlFlow, match="`seq` leaves 8 to 11"):
        convert(tmp_path, ref("ShortBranch"), "batch,seq=8..20,8", opset=opset)


def test_a_range_whose_example_lies_above_a_branch_is_refused_at_its_lower_end(tmp_path):
    with pytest.raises(DataDependentControlFlow, match="`seq` leaves 12 to 20") as caught:
        convert(tmp_path, ref("ShortBranch"), "batch,seq=4..20@16,8")
    assert caught.value.fix == "--input x=batch,seq=12..20,8"


def test_strides_that_shrink_an_image_to_a_pixel_are_no_branch(tmp_path):
    made, path = convert(tmp_path, ref("Strided"), "batch,3,height,width")
    assert_same(made, path, "batch,3,height=2..70,width=2..90")
    assert made.exporter == "torch dynamo exporter"


@pytest.mark.parametrize("opset", [17, 18])
def test_a_branch_on_a_remainder_has_no_range_and_is_refused(tmp_path, opset):
    with pytest.raises(DataDependentControlFlow, match="the size of the axis `seq`"):
        convert(tmp_path, ref("EvenBranch"), "batch,seq", opset=opset)


@pytest.mark.parametrize("opset", [17, 18])
@pytest.mark.parametrize(
    ("name", "shape", "size"),
    [
        ("OneSizeBranch", "1,seq=1..64,8", 23),
        ("OneSizeBranch", "1,seq=10..60@40,8", 23),
        ("InnerBranch", "1,seq=8..512/8@16,8", None),
    ],
)
def test_a_branch_at_sizes_within_a_range_is_refused(tmp_path, name, shape, size, opset):
    with pytest.raises(DataDependentControlFlow, match="the size of the axis `seq`") as caught:
        convert(tmp_path, ref(name), shape, opset=opset)
    assert re.search(rf"`seq`={size}$" if size else r"`seq`=(80|88)$", caught.value.why or "")


def test_a_branch_at_one_size_of_an_open_axis_is_found_by_the_guards_of_torch(tmp_path):
    with pytest.raises(DataDependentControlFlow, match="the size of the axis `seq`") as caught:
        convert(tmp_path, ref("OneSizeBranch"), "1,seq,8", opset=18)
    assert (caught.value.why or "").endswith("`seq`=23")


def test_a_range_that_no_branch_divides_is_converted(tmp_path):
    for opset in (17, 18):
        made, path = convert(tmp_path, ref("OneSizeBranch"), "1,seq=24..64,8", opset=opset)
        assert_same(made, path, "1,seq=24..64,8")


def test_a_fallback_tells_the_greatest_sizes_that_were_compared(tmp_path):
    made, path = convert(tmp_path, ref("Recurrent"), "x=batch,time=2..50,4")
    assert_same(made, path, "x=batch,time=2..50,4")
    assert any("time up to 50" in warning for warning in made.warnings)


@pytest.mark.parametrize("opset", [17, 18])
@pytest.mark.parametrize(
    ("name", "error", "fix"),
    [
        ("RareBranch", LeavesTensors, "torch's own functions"),
        ("RareAny", DataDependentControlFlow, "torch.jit.script"),
    ],
)
def test_a_branch_on_data_that_no_trial_takes_is_refused(tmp_path, name, error, fix, opset):
    for shape in ("2,4", "batch,4"):
        with pytest.raises(error) as caught:
            convert(tmp_path, ref(name), shape, opset=opset)
        assert fix in caught.value.fix
        assert "torch_nets.py:" in caught.value.what


@pytest.mark.parametrize("opset", [17, 18])
def test_a_module_that_reads_its_buffers_and_its_sizes_is_converted(tmp_path, opset):
    made, path = convert(tmp_path, ref("ReadsItsOwn"), "x=2,time,4", opset=opset)
    assert_same(made, path)
    assert made.exporter == "TorchScript exporter"


def test_a_fallback_tells_its_reason_and_only_what_was_compared(tmp_path):
    made, _ = convert(tmp_path, ref("ReadsItsOwn"), "x=2,3,4")
    told = next((warning for warning in made.warnings if "was used" in warning), "")
    assert "the torch dynamo exporter failed (" in told
    assert told.endswith("its trace agrees with the module on 4 sets of random values")


def test_complex_outputs_are_refused(tmp_path):
    with pytest.raises(UnsupportedType, match="complex64"):
        convert(tmp_path, ref("Complex"), "x=2,8")


def test_all_operators_without_a_form_are_named(tmp_path):
    with pytest.raises(UnsupportedOperator, match=r"`aten.linalg_qr`, `aten._linalg_eigh`"):
        convert(tmp_path, ref("Unsupported"), "x=4,4")
    with pytest.raises(UnsupportedOperator, match=r"`aten::linalg_qr`, `aten::linalg_eigvalsh`"):
        convert(tmp_path, ref("Unsupported"), "x=4,4", opset=17)


def test_a_forward_that_raises_is_quoted(tmp_path):
    with pytest.raises(UserCodeRaised) as caught:
        convert(tmp_path, ref("Raises"), "x=1")
    assert "ValueError: the sensor is off" in str(caught.value.why)
    assert "torch_nets.py:" in str(caught.value.why)


def test_missing_shapes_are_asked_for_by_name(tmp_path):
    with pytest.raises(ShapesNeeded) as caught:
        convert(tmp_path, ref("Residual"))
    assert caught.value.fix == "--input image=1,3,224,224"
    with pytest.raises(ShapesNeeded) as caught:
        convert(tmp_path, ref("Attention"))
    assert caught.value.fix.startswith("--input query=DIM,DIM,... --input memory=DIM,DIM,...")


def test_what_was_given_is_typed_again_beside_what_is_missing(tmp_path):
    with pytest.raises(ShapesNeeded) as caught:
        convert(tmp_path, ref("Attention"), "query=batch,8,32:float32[-1..1]")
    assert caught.value.fix.startswith("--input 'query=batch,8,32:float32[-1..1]' --input memory=DIM,DIM,...")


def test_only_what_the_first_layer_reads_gets_its_shape():
    net: Any = torch.nn.Module()
    net.conv = torch.nn.Conv2d(3, 4, 1)
    net.forward = lambda scale, image: net.conv(image) * scale
    with pytest.raises(ShapesNeeded) as caught:
        signature(net, (), "net")
    assert caught.value.fix.startswith("--input scale=DIM,DIM,... --input image=1,3,224,224   (DIM: ")
    with pytest.raises(ShapesNeeded) as caught:
        signature(net, (parse_input("image=1,3,8,8"),), "net")
    assert caught.value.fix.startswith("--input image=1,3,8,8 --input scale=DIM,DIM,...   (DIM: ")


def test_an_input_that_forward_has_not_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(UnknownInput) as caught:
        convert(tmp_path, ref("Residual"), "imag=1,3,8,8")
    assert caught.value.fix == "--input image=1,3,8,8"


def test_floats_where_a_table_is_indexed_are_told_apart(tmp_path):
    with pytest.raises(BadInputOption) as caught:
        convert(tmp_path, ref("Many"), "ids=2,6", "x=2,4")
    assert "ids=2,6:int64" in caught.value.fix


def test_a_state_between_runs_is_refused(tmp_path):
    with pytest.raises(ConverterFailed, match="buffers of the module: `runs`"):
        convert(tmp_path, ref("Counts"), "x=2,4")


def test_random_outputs_are_told(tmp_path):
    made, _ = convert(tmp_path, ref("Noisy"), "x=2,4")
    assert any("draws random numbers" in warning for warning in made.warnings)


def test_outputs_that_are_objects_are_left_out_on_request_alone(tmp_path):
    with pytest.raises(UnsupportedType) as caught:
        convert(tmp_path, ref("Cached"), "x=2,4")
    assert caught.value.fix == "--outputs logits"
    made, path = convert(tmp_path, ref("Cached"), "x=2,4", outputs=("logits",))
    assert_same(made, path)


def test_half_precision_is_widened_with_a_warning(tmp_path):
    made, path = convert(tmp_path, ref("half"), "batch,4")
    assert_same(made, path)
    assert "the weights are float16 and were converted to float32" in made.warnings


SCRIPT = """
import sys, warnings; warnings.simplefilter("ignore")
from pathlib import Path
from mlconv.convert.job import Job, Options
from mlconv.convert.torch_to_onnx import run
from mlconv.formats import ModelFile
from mlconv.input_grammar import parse_input
ref, out, opset, *inputs = sys.argv[1:]
options = Options(input=tuple(map(parse_input, inputs)), opset=int(opset))
run(Job(ModelFile(ref, None, "torch-module"), "onnx", Path(out) / "m.onnx", Path(out), options))
"""


@pytest.mark.parametrize("opset", [17, 18])
def test_two_processes_write_the_same_bytes_and_no_path(tmp_path, opset):
    digests = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        args = [sys.executable, "-c", SCRIPT, ref("UNet"), str(folder), str(opset), "x=b,3,16,16"]
        subprocess.run(
            args,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
        )
        data = (folder / "m.onnx").read_bytes()
        assert str(NETS.parent).encode() not in data
        digests.append(hashlib.sha256(data).hexdigest())
    assert digests[0] == digests[1]
