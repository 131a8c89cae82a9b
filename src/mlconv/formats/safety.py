"""Consent: what a source would run or reach if a framework loaded it, and the refusal where nobody asked for that."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from mlconv.errors import PathEscape, UntrustedOperator, UntrustedPickle, listed
from mlconv.formats import (
    ModelFile,
    archive,
    coreml,
    graph_def,
    graph_operators,
    hdf5_file,
    keras_code,
    keras_file,
    mapped,
    onnx_file,
    saved_model,
    torch_archive,
    torch_export,
    torchscript,
    weights,
)
from mlconv.formats.archive import Archive, broken
from mlconv.formats.protobuf import WireError

_WITHOUT_LOADING = "without loading it: --module FILE.py:NAME, where NAME builds the same network"
_SAVE_SAFE = "save the state dict as .safetensors, or the program with torch.export.save"


def assert_safe(model: ModelFile, *, trust_pickle: bool = False, trust_model: bool = False) -> None:
    """Refuse a source that would run code or reach files that nobody named. It reads, and loads nothing.

    Args:
        model: What ``mlconv.model.identify`` returned.
        trust_pickle: Consent to pickles.
        trust_model: Consent to Python and any function in Keras files, and to file, network and Python operators in
            TensorFlow graphs and TorchScript. Neither consents to paths that lead outside.

    Raises:
        UntrustedPickle: A pickle that would import more than tensors and containers.
        UntrustedCode: A Keras model with marshalled Python, or with functions that may do more than compute.
        UntrustedOperator: A graph with operators that touch files, the network or Python; all are named.
        PathEscape: An archive's member, a link or a reference that leads outside.
        Corrupt: It cannot be read to find out.
    """
    check = _CHECKS.get(model.format)
    if check is not None:
        check(model, trust_pickle, trust_model)


def _pickle(model: ModelFile, trust_pickle: bool, _: bool) -> None:
    path = mapped.path_of(model)
    opened = _archive_of(path)
    if opened is not None:
        archive.assert_inside(opened)
    if not trust_pickle:
        names = torch_archive.imported(path, opened)
        raise UntrustedPickle(
            f"`{model.ref}` is a pickle that would run code to load",
            why=f"it imports {listed(names)}" if names else "it cannot be read without being loaded",
            fix="--trust-pickle, if you know who made it; "
            + (_WITHOUT_LOADING if weights.is_readable(path) else f"better: {_SAVE_SAFE}"),
        )


def _weights(model: ModelFile, trust_pickle: bool, trust_model: bool) -> None:
    path = mapped.path_of(model)
    if weights.is_index(bytes(mapped.read_only(path)[:64])):
        from mlconv.model import identify

        for shard in weights.shards(path):
            assert_safe(identify(str(shard)), trust_pickle=trust_pickle, trust_model=trust_model)
        return
    opened = _archive_of(path)
    if opened is not None:
        archive.assert_inside(opened)


def _torchscript(model: ModelFile, _: bool, trust_model: bool) -> None:
    opened = archive.open_archive(mapped.path_of(model))
    archive.assert_inside(opened)
    if not trust_model:
        _refuse_operators(
            model, graph_operators.untrusted_torch(torchscript.operators(opened)),
            "script the module without these calls, and torch.jit.save it again",
        )  # fmt: skip


def _torch_export(model: ModelFile, trust_pickle: bool, trust_model: bool) -> None:
    opened = archive.open_archive(mapped.path_of(model))
    archive.assert_inside(opened)
    if not trust_pickle:
        for name in torch_export.pickles(opened):
            _refuse_pickled_member(model, opened, name)
    if not trust_model:
        _refuse_operators(
            model, graph_operators.untrusted_torch(torch_export.describe(model).operators),
            "export the module without these calls, and torch.export.save it again",
        )  # fmt: skip


def _refuse_pickled_member(model: ModelFile, opened: Archive, name: str) -> None:
    """Weights and constants in torch's own archives inside the archive. Sample inputs are left out: nothing loads them."""
    if torch_export.is_sample(name):
        return
    names = torch_archive.imported_by_member(opened, name)
    if names is None or names:
        raise UntrustedPickle(
            f"`{model.ref}` holds the pickle `{name}`, which would run code to load",
            why=f"it imports {listed(names)}" if names else "it cannot be read without being loaded",
            fix="where you trust it, write it anew with torch 2.13 or later: torch.export.save(torch.export.load('a.pt2'), 'b.pt2')",
        )


def _keras(model: ModelFile, _: bool, trust_model: bool) -> None:
    path = mapped.path_of(model)
    opened = _archive_of(path)
    if opened is not None:
        archive.assert_inside(opened)
    found = keras_file.read(path)
    if found.weights is not None:
        hdf5_file.assert_inside(found.weights, path)
    files = [
        name for name in keras_file.outside_files(found) if archive.leads_outside(name) or opened is None
    ]
    if files:
        raise PathEscape(
            f"`{model.ref}` names files outside itself: {listed(files)}", why="a layer would read its vocabulary from there",
            fix="save the model with the vocabulary in it: adapt() or set_vocabulary(), then model.save",
        )  # fmt: skip
    if not trust_model:
        keras_code.assert_no_code(found.config, model.ref)


def _saved_model(model: ModelFile, _: bool, trust_model: bool) -> None:
    folder = mapped.path_of(model)
    _assert_links_inside(folder)
    graphs = saved_model.read(folder)
    escaping = [name for graph in graphs for name in graph.assets if archive.leads_outside(name)]
    if escaping:
        raise PathEscape(
            f"`{model.ref}` names assets outside its folder: {listed(escaping)}",
            fix="do not use this model; fetch it from where it was published",
        )
    if not trust_model:
        try:
            _refuse_operators(model, graph_operators.untrusted_saved_model(graphs))
        except WireError as error:
            raise broken(folder / saved_model.FILE, f"it is no whole SavedModel: {error}") from error


def _graph(model: ModelFile, _: bool, trust_model: bool) -> None:
    path = mapped.path_of(model)
    if not trust_model:
        try:
            _refuse_operators(model, graph_operators.untrusted_graph(graph_def.read(mapped.read_only(path))))
        except WireError as error:
            raise broken(path, f"it is no whole GraphDef: {error}") from error


def _onnx(model: ModelFile, _: bool, __: bool) -> None:
    onnx_file.assert_external_data_inside(mapped.path_of(model))


def _package(model: ModelFile, _: bool, __: bool) -> None:
    folder = mapped.path_of(model)
    _assert_links_inside(folder)
    coreml.root_model(folder)


_CHECKS: dict[str, Callable[[ModelFile, bool, bool], None]] = {
    "torch-pickle": _pickle,
    "torch-weights": _weights,
    "torchscript": _torchscript,
    "torch-export": _torch_export,
    "keras": _keras,
    "keras-h5": _keras,
    "saved-model": _saved_model,
    "tf-graph": _graph,
    "onnx": _onnx,
    "coreml-package": _package,
}
"""By format. Of a REF naming it is the consent; TFLite, ORT and Core ML's single files hold data alone."""


def _refuse_operators(
    model: ModelFile, counts: dict[str, int], fix: str = "--trust-model, if you know who made it"
) -> None:
    if counts:
        names = ", ".join(f"`{name}` ({count})" for name, count in counts.items())
        raise UntrustedOperator(
            f"`{model.ref}` has operators that touch files, the network or Python: {names}",
            why="running the model would run them with your rights",
            fix=fix,
        )


def _archive_of(path: Path) -> Archive | None:
    with path.open("rb") as file:
        head = file.read(4)
    return archive.open_archive(path) if archive.is_zip(head) else None


def _assert_links_inside(folder: Path) -> None:
    """Refuse a folder with a link to somewhere else."""
    home = folder.resolve()
    outside = [link for link in _links(folder) if not Path(os.path.realpath(link)).is_relative_to(home)]
    if outside:
        raise PathEscape(
            f"`{folder}` has links that lead outside it: {listed([str(link.relative_to(folder)) for link in outside])}",
            fix="put the files themselves into the folder: cp -rL copies what links point to",
        )


def _links(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        yield from (Path(place, name) for name in (*folders, *files) if Path(place, name).is_symlink())
