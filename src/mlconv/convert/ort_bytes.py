"""The same ORT model, the same bytes.

onnxruntime 1.31 lays out the last part that it writes, the kernel type strings of each operator, in the order of a hash
table whose seed differs from process to process. The model itself comes out alike each time. So the model's bytes are
kept as they are, and what stands before them is written again, in the order of the operators' names.

The schema: microsoft/onnxruntime, onnxruntime/core/flatbuffers/schema/ort.fbs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers  # type: ignore[import-untyped]

from mlconv.formats.flatbuffer import Reader, Table
from mlconv.formats.ort_file import IDENTIFIER

_ALIGNMENT = 64  # bytes; no vector of the schema needs more, and the kept part must stay as aligned as it was


class _Session:
    ORT_VERSION, MODEL, SESSION_STATE, KERNEL_TYPES = range(4)


def in_order(data: bytes) -> bytes:
    """The file with its kernel type strings in the order of their names; one of another layout as it is.

    Raises:
        FlatbufferError: It is no ORT file.
    """
    session = Reader(memoryview(data)).root()
    model, kernels = session.table(_Session.MODEL), session.table(_Session.KERNEL_TYPES)
    if model is None or kernels is None or session.has(_Session.SESSION_STATE):
        return data
    kept_from = min(model.start, model.vtable)
    if max(session.start, kernels.start) >= kept_from:
        return data
    builder = flatbuffers.Builder(len(data) + _ALIGNMENT)
    # A builder writes from the end, and counts every place from there: what is kept stays where it was.
    builder.head -= len(data) - kept_from
    builder.Bytes[builder.head :] = data[kept_from:]
    builder.minalign = _ALIGNMENT
    version = builder.CreateString(session.text(_Session.ORT_VERSION))
    types = _kernel_types(builder, kernels)
    builder.StartObject(4)
    builder.PrependUOffsetTRelativeSlot(_Session.ORT_VERSION, version, 0)
    builder.PrependUOffsetTRelativeSlot(_Session.MODEL, len(data) - model.start, 0)
    builder.PrependUOffsetTRelativeSlot(_Session.KERNEL_TYPES, types, 0)
    builder.Finish(builder.EndObject(), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def _kernel_types(builder: Any, kernels: Table) -> int:
    """KernelTypeStrResolver: of each operator, which inputs and outputs each of its type strings stands for."""
    operators = sorted(kernels.tables(0), key=lambda operator: operator.text(0).encode())
    return _table(builder, [_vector(builder, [_operator(builder, operator) for operator in operators])])


def _operator(builder: Any, operator: Table) -> int:
    strings = sorted(operator.tables(1), key=lambda string: string.text(0).encode())
    name = builder.CreateSharedString(operator.text(0))
    return _table(builder, [name, _vector(builder, [_string(builder, string) for string in strings])])


def _string(builder: Any, string: Table) -> int:
    name = builder.CreateSharedString(string.text(0))
    return _table(builder, [name, _vector(builder, [_argument(builder, each) for each in string.tables(1)])])


def _argument(builder: Any, argument: Table) -> int:
    """Whether it is an input or an output, and which."""
    builder.StartObject(2)
    builder.PrependInt8Slot(0, argument.integer(0, "int8"), 0)
    builder.PrependUint32Slot(1, argument.integer(1, "uint32"), 0)
    return int(builder.EndObject())


def _table(builder: Any, fields: Sequence[int]) -> int:
    builder.StartObject(len(fields))
    for slot, offset in enumerate(fields):
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    return int(builder.EndObject())


def _vector(builder: Any, tables: Sequence[int]) -> int:
    builder.StartVector(4, len(tables), 4)
    for offset in reversed(tables):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())
