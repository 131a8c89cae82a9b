"""A TFLite file cut at inner tensors: LiteRT gives no tensor but a model's outputs.

Nothing is written anew: a copy of the file gets another vector of outputs behind it, its list of operators is shortened
in place, and the entry point becomes the first subgraph. So it needs no schema classes, and constants of any size, inside
the flatbuffer or behind it, stay where they are.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mlconv.convert.tflite_import.entry import calls, needed
from mlconv.errors import SourceDoesNotRun
from mlconv.formats import mapped, tflite_read
from mlconv.formats.flatbuffer import FlatbufferError, Reader, Table
from mlconv.formats.tflite_graph import Model
from mlconv.formats.tflite_schema import ModelField, SubgraphField
from mlconv.runners.litert import Entry


@dataclass(frozen=True, slots=True)
class _Patch:
    at: int
    data: bytes


def reference_file(path: Path, model: Model, whole: Entry, entry: Entry, scratch: Path) -> tuple[Path, Entry]:
    """The file and the entry point that LiteRT runs to give ``entry``'s outputs: the source itself, or a copy that is cut.

    Args:
        whole: The entry point as the file has it.
        entry: The same with the outputs asked for.
        scratch: The folder for the copy.

    Raises:
        SourceDoesNotRun: The file is built in a way that does not let it be cut.
    """
    outputs = [index for index, _ in entry.outputs]
    by_name = (
        entry.subgraph != 0
    )  # LiteRT reaches the first subgraph's tensors by number, the others' by the signature
    if set(outputs) <= set(model.subgraphs[entry.subgraph].outputs) and not (
        by_name and set(entry.outputs) - set(whole.outputs)
    ):
        return path, entry
    target = scratch / "cut.tflite"
    try:
        patches = list(_patches(Reader(mapped.read_only(path)), model, entry, outputs, path.stat().st_size))
        shutil.copyfile(path, target)
        with target.open("r+b") as file:
            for patch in patches:
                file.seek(patch.at)
                file.write(patch.data)
        _assert_cut(target, model, entry, outputs)
    except (FlatbufferError, struct.error, OSError) as error:
        raise SourceDoesNotRun(f"`{path.name}` cannot be cut at its inner tensors, so there is nothing to compare with", why=str(error),
                               fix="--outputs that are outputs of the model") from error  # fmt: skip
    return target, replace(entry, key=None, subgraph=0)


def _patches(
    reader: Reader, model: Model, entry: Entry, outputs: Sequence[int], end: int
) -> Iterator[_Patch]:
    root = reader.root()
    graphs_at = root.place(ModelField.SUBGRAPHS)
    assert graphs_at is not None  # the file was read
    first, _ = reader.elements(graphs_at, 4)
    graph = reader.table(first + 4 * entry.subgraph)
    if entry.subgraph:
        yield from _swapped(reader, first, first + 4 * entry.subgraph)
    signatures = root.place(ModelField.SIGNATURE_DEFS)
    if signatures is not None:  # they name other outputs
        yield _emptied(reader, signatures)
    yield from _kept(
        reader,
        graph,
        [operator.index for operator in needed(model, model.subgraphs[entry.subgraph], outputs)],
    )
    outputs_at = graph.place(SubgraphField.OUTPUTS)
    if outputs_at is None:
        raise FlatbufferError("its subgraph has no list of outputs")
    start = end + -end % 4
    yield _Patch(end, bytes(start - end) + struct.pack(f"<I{len(outputs)}i", len(outputs), *outputs))
    yield _Patch(outputs_at, struct.pack("<I", start - outputs_at))


def _swapped(reader: Reader, one: int, other: int) -> Iterator[_Patch]:
    """Two elements of a vector of tables change places; offsets count from the element itself, and lead forward."""
    yield _Patch(one, struct.pack("<I", reader.follow(other) - one))
    yield _Patch(other, struct.pack("<I", reader.follow(one) - other))


def _emptied(reader: Reader, at: int) -> _Patch:
    start, _ = reader.elements(at, 4)
    return _Patch(start - 4, struct.pack("<I", 0))


def _kept(reader: Reader, graph: Table, indices: Sequence[int]) -> Iterator[_Patch]:
    """The vector of operators with some of them: the others' places are left behind its end."""
    at = graph.place(SubgraphField.OPERATORS)
    if at is None:
        return
    start, _ = reader.elements(at, 4)
    for place, index in enumerate(indices):
        yield _Patch(
            start + 4 * place, struct.pack("<I", reader.follow(start + 4 * index) - (start + 4 * place))
        )
    yield _Patch(start - 4, struct.pack("<I", len(indices)))


def _assert_cut(target: Path, model: Model, entry: Entry, outputs: Sequence[int]) -> None:
    """Read what was written: vectors that parts of a file share would have been changed for all of them."""
    made, was = tflite_read.read(target), model.subgraphs[entry.subgraph]
    graph = made.subgraphs[0]
    wanted = [(operator.kind, operator.inputs, operator.outputs) for operator in needed(model, was, outputs)]
    found = [(operator.kind, operator.inputs, operator.outputs) for operator in graph.operators]
    others = [
        (index, graph) for index, graph in enumerate(model.subgraphs) if index not in (0, entry.subgraph)
    ]
    untouched = all(len(made.subgraphs[index].operators) == len(graph.operators) for index, graph in others)
    called = {0, entry.subgraph} if entry.subgraph else set()
    if (
        wanted != found
        or graph.outputs != tuple(outputs)
        or not untouched
        or called & {number for _, operator in model.operators() for number in calls(operator)}
    ):
        raise FlatbufferError("its parts share what would have to change")
