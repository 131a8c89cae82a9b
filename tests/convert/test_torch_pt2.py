"""Hostile `.pt2` archives: nothing that they hold runs, and honest ones load."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from mlconv.convert.torch_import import pt2 as torch_pt2  # noqa: E402
from mlconv.errors import (  # noqa: E402
    Corrupt,
    InputError,
    NotConvertible,
    UnknownSignature,
    UnsupportedOperator,
    UntrustedCode,
    UntrustedOperator,
    UntrustedPickle,
)

pytestmark = [pytest.mark.framework("torch"), pytest.mark.filterwarnings("ignore")]


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 3)
        self.register_buffer("offset", torch.ones(3))

    def forward(self, x: Any, *, state: Any) -> Any:
        return {"y": self.linear(x) + self.offset + torch.tensor([1.0, 2.0, 3.0]), "z": state["h"] + 1}


class Bomb:
    """A pickle that leaves a file where it runs."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return Path.touch, (self.canary,)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pt2") / "net.pt2"
    batch = torch.export.Dim("batch", min=1, max=8)
    shapes = {"x": {0: batch}, "state": {"h": {0: 4 * torch.export.Dim("h", min=1, max=8)}}}
    program = torch.export.export(
        Net(), (torch.randn(2, 4),), {"state": {"h": torch.zeros(8)}}, dynamic_shapes=shapes
    )
    torch.export.save(program, path)
    return path


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


def changed(source: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The archive with its members changed; names without the root folder."""
    with zipfile.ZipFile(source) as archive:
        root = archive.namelist()[0].split("/")[0]
        members = {name.removeprefix(f"{root}/"): archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{root}/{name}", data)
    return target


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def edit(members: dict[str, bytes], name: str, change: Callable[[Any], None]) -> None:
    document = json.loads(members[name])
    change(document)
    members[name] = json.dumps(document).encode()


def load(path: Path, tmp_path: Path) -> Any:
    folder = tmp_path / "scratch"
    folder.mkdir(exist_ok=True)
    return torch_pt2.load(path, path.name, folder)


def test_an_honest_program_computes_what_torch_computes(honest, tmp_path):
    feeds = torch.randn(3, 4), {"h": torch.arange(4.0)}
    wanted = torch.export.load(honest).module()(feeds[0], state=feeds[1])
    found = load(honest, tmp_path).module()(feeds[0], state=feeds[1])
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    assert not list((tmp_path / "scratch").iterdir())


def test_sample_inputs_are_never_read(honest, tmp_path, canary):
    def change(members: dict[str, bytes]) -> None:
        members["data/sample_inputs/model.pt"] = saved(Bomb(canary))

    load(changed(honest, tmp_path / "bad.pt2", change), tmp_path)
    assert not canary.exists()


@pytest.mark.parametrize(("folder", "key"), [("weights", "linear.weight"), ("constants", None)])
def test_a_pickled_payload_is_refused_unrun(honest, tmp_path, canary, folder, key):
    def change(members: dict[str, bytes]) -> None:
        def pickled(config: Any) -> None:
            name = key or next(iter(config["config"]))
            config["config"][name]["use_pickle"] = True
            members[f"data/{folder}/{config['config'][name]['path_name']}"] = saved(Bomb(canary))

        edit(members, f"data/{folder}/model_{folder}_config.json", pickled)

    with pytest.raises(UntrustedPickle, match="without running the pickle"):
        load(changed(honest, tmp_path / "bad.pt2", change), tmp_path)
    assert not canary.exists()


@pytest.mark.parametrize("folder", ["weights", "constants"])
def test_a_payload_file_of_the_old_layout_is_refused_unrun(honest, tmp_path, canary, folder):
    def change(members: dict[str, bytes]) -> None:
        members[f"data/{folder}/model.pt"] = saved({"linear.weight": Bomb(canary)})

    with pytest.raises(UntrustedPickle):
        load(changed(honest, tmp_path / "bad.pt2", change), tmp_path)
    assert not canary.exists()


@pytest.mark.parametrize("prefix", ["opaque_obj_0", "custom_obj_0"])
def test_constants_that_are_objects_are_refused_unrun(honest, tmp_path, canary, prefix):
    def change(members: dict[str, bytes]) -> None:
        def named(config: Any) -> None:
            next(iter(config["config"].values()))["path_name"] = prefix

        edit(members, "data/constants/model_constants_config.json", named)
        members[f"data/constants/{prefix}"] = pickle.dumps(Bomb(canary))

    with pytest.raises(UntrustedPickle, match="only unpickling could read"):
        load(changed(honest, tmp_path / "bad.pt2", change), tmp_path)
    assert not canary.exists()


def test_a_pickled_tensor_of_an_honest_payload_is_read(honest, tmp_path):
    def change(members: dict[str, bytes]) -> None:
        def pickled(config: Any) -> None:
            config["config"]["linear.bias"]["use_pickle"] = True
            config["config"]["linear.bias"]["path_name"] = "weight_9"
            members["data/weights/weight_9"] = saved(torch.nn.Parameter(torch.full((3,), 7.0)))

        edit(members, "data/weights/model_weights_config.json", pickled)

    program = load(changed(honest, tmp_path / "tensor.pt2", change), tmp_path)
    assert program.state_dict["linear.bias"].tolist() == [7.0, 7.0, 7.0]


def first_size(program: Any) -> Any:
    tensors = program["graph_module"]["graph"]["tensor_values"]
    return tensors["x"]["sizes"][0]["as_expr"]


def run_in_size(program: Any, code: str) -> None:
    first_size(program)["expr_str"] = code


def run_in_guard(program: Any, code: str) -> None:
    program["guards_code"] = [code]


def run_in_name(program: Any, code: str) -> None:
    program["graph_module"]["graph"]["nodes"][0]["name"] = f"a\n{code}"


def run_in_argument_names(program: Any, code: str) -> None:
    call = program["graph_module"]["module_call_graph"][0]["signature"]
    call["forward_arg_names"] = [f"x={code}", "state"]


def run_in_parameter(program: Any, code: str) -> None:
    spec = program["graph_module"]["signature"]["input_specs"][0]
    spec["parameter"]["parameter_name"] = f'a"); {code}; ("'


def run_as_operator(program: Any, code: str) -> None:
    program["graph_module"]["graph"]["nodes"][0]["target"] = "torch.serialization.os.system"


def run_in_tree(program: Any, code: str) -> None:
    call = program["graph_module"]["module_call_graph"][0]["signature"]
    version, tree = json.loads(call["out_spec"])
    tree["context"] = json.dumps([{"__enum__": True, "fqn": "antigravity:X", "name": "x"}])
    call["out_spec"] = json.dumps([version, tree])


@pytest.mark.parametrize(
    "attack",
    [
        run_in_size,
        run_in_guard,
        run_in_name,
        run_in_argument_names,
        run_in_parameter,
        run_as_operator,
        run_in_tree,
    ],
)
def test_json_that_torch_would_evaluate_does_not_run(honest, tmp_path, canary, attack):
    code = f"__import__('pathlib').Path({str(canary)!r}).touch()"

    def change(members: dict[str, bytes]) -> None:
        edit(members, "models/model.json", lambda program: attack(program, code))

    bad = changed(honest, tmp_path / "bad.pt2", change)
    if attack is run_in_guard:  # guards are left out: the program loads without them
        load(bad, tmp_path).module()(torch.zeros(2, 4), state={"h": torch.zeros(4)})
    else:
        with pytest.raises(UntrustedCode):
            load(bad, tmp_path)
    assert not canary.exists()


def test_the_attack_on_sizes_works_on_torch_itself(honest, tmp_path, canary):
    """Else the test above would show nothing."""
    code = f"__import__('pathlib').Path({str(canary)!r}).touch()"

    def change(members: dict[str, bytes]) -> None:
        edit(members, "models/model.json", lambda program: run_in_size(program, code))

    bad = changed(honest, tmp_path / "bad.pt2", change)
    with pytest.raises(Exception):  # noqa: B017, PT011  whatever torch makes of None as a size
        torch.export.load(bad)
    assert canary.exists()


def test_operators_that_open_files_are_refused(honest, tmp_path):
    def change(members: dict[str, bytes]) -> None:
        def reading(program: Any) -> None:
            program["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.aten.from_file.default"

        edit(members, "models/model.json", reading)

    with pytest.raises(UntrustedOperator, match="from_file"):
        load(changed(honest, tmp_path / "bad.pt2", change), tmp_path)


def test_operators_of_other_libraries_are_all_named(honest, tmp_path):
    def change(members: dict[str, bytes]) -> None:
        def foreign(program: Any) -> None:
            nodes = program["graph_module"]["graph"]["nodes"]
            nodes[0]["target"], nodes[1]["target"] = (
                "torch.ops.mine.first.default",
                "torch.ops.mine.second.default",
            )

        edit(members, "models/model.json", foreign)

    with pytest.raises(UnsupportedOperator, match=r"`mine.first.default`, `mine.second.default`"):
        load(changed(honest, tmp_path / "bad.pt2", change), tmp_path)


def test_a_compiled_archive_is_not_loaded(honest, tmp_path):
    def change(members: dict[str, bytes]) -> None:
        members["data/aotinductor/model/x.so"] = b"\x7fELF"
        del members["models/model.json"]

    with pytest.raises(NotConvertible, match="no exported program"):
        load(changed(honest, tmp_path / "bad.pt2", change), tmp_path)


def test_a_payload_outside_its_folder_is_refused(honest, tmp_path):
    def change(members: dict[str, bytes]) -> None:
        def outside(config: Any) -> None:
            config["config"]["offset"]["path_name"] = "../../models/model.json"

        edit(members, "data/weights/model_weights_config.json", outside)

    with pytest.raises(Corrupt, match="lies at"):
        load(changed(honest, tmp_path / "bad.pt2", change), tmp_path)


def test_truncated_and_empty_archives_are_corrupt(honest, tmp_path):
    data = honest.read_bytes()
    for cut in (0, 100, len(data) // 2, len(data) - 30):
        (tmp_path / "cut.pt2").write_bytes(data[:cut])
        with pytest.raises(InputError):
            load(tmp_path / "cut.pt2", tmp_path)


def test_a_program_that_the_archive_has_not_is_named(honest, tmp_path):
    with pytest.raises(UnknownSignature, match="`model`"):
        torch_pt2.load(honest, "net.pt2", tmp_path, "other")


def test_a_program_saved_on_a_gpu_loads_on_the_cpu(honest, tmp_path):
    def change(members: dict[str, bytes]) -> None:
        for name, data in list(members.items()):
            if name.endswith(".json"):
                members[name] = data.replace(b'"type": "cpu", "index": null', b'"type": "cuda", "index": 0')

    program = load(changed(honest, tmp_path / "gpu.pt2", change), tmp_path)
    assert program.state_dict["linear.weight"].device.type == "cpu"
    assert program.module()(torch.zeros(2, 4), state={"h": torch.zeros(4)})["y"].shape == (2, 3)
