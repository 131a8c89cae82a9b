"""An ONNX file without its weights: what `inspect` needs, in memory of the graph's size instead of the model's.

The message is walked field by field before the onnx package parses it, so that no file makes the parser allocate
gigabytes: an empty message takes two bytes in a file and a hundred in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlconv.errors import Corrupt
from mlconv.formats import mapped, protobuf
from mlconv.formats.protobuf import BYTES, WireError

if TYPE_CHECKING:
    import onnx

MAX_FILE_BYTES = (1 << 31) - 1  # https://protobuf.dev/programming-guides/proto-limits/
MAX_MESSAGES = (
    5_000_000  # submessages and strings; a decoder of 32 layers exported operator by operator has 200,000
)
MAX_FIELDS = 40_000_000  # numbers too: a tree ensemble keeps one field for every node and attribute
MAX_NUMBERS_BYTES = 1 << 30  # what is left after the weights: attributes of tree ensembles, mostly
MAX_DEPTH = 100  # the parser's own
KEPT_BYTES = 4096  # constants up to this size stay: shape inference reads shapes, axes and scales

# Fields that hold messages, by message (onnx.proto, IR version 13).
_CHILDREN: dict[tuple[str, int], str] = {
    ("Model", 7): "Graph", ("Model", 8): "Opset", ("Model", 14): "Entry", ("Model", 20): "Training",
    ("Model", 25): "Function", ("Model", 26): "Leaf",
    ("Training", 1): "Graph", ("Training", 2): "Graph", ("Training", 3): "Entry", ("Training", 4): "Entry",
    ("Graph", 1): "Node", ("Graph", 5): "Tensor", ("Graph", 11): "Value", ("Graph", 12): "Value",
    ("Graph", 13): "Value", ("Graph", 14): "Annotation", ("Graph", 15): "Sparse", ("Graph", 16): "Entry",
    ("Annotation", 2): "Entry",
    ("Function", 7): "Node", ("Function", 9): "Opset", ("Function", 11): "Attribute", ("Function", 12): "Value",
    ("Function", 14): "Entry",
    ("Node", 5): "Attribute",
    ("Attribute", 5): "Tensor", ("Attribute", 6): "Graph", ("Attribute", 10): "Tensor", ("Attribute", 11): "Graph",
    ("Attribute", 14): "Leaf", ("Attribute", 15): "Leaf", ("Attribute", 22): "Sparse", ("Attribute", 23): "Sparse",
    ("Sparse", 1): "Tensor", ("Sparse", 2): "Tensor",
    ("Tensor", 13): "Entry", ("Tensor", 16): "Entry",
    ("Value", 2): "Type", ("Value", 4): "Entry",
    ("Type", 1): "TensorType", ("Type", 4): "Leaf", ("Type", 5): "Leaf", ("Type", 8): "TensorType", ("Type", 9): "Leaf",
    ("TensorType", 2): "Shape", ("Shape", 1): "Dimension",
}  # fmt: skip

# Fields that hold text. A string that is not UTF-8 (a path or a comment in another encoding) would come as bytes.
_TEXTS: dict[str, frozenset[int]] = {
    "Model": frozenset({2, 3, 4, 6}), "Opset": frozenset({1}), "Entry": frozenset({1, 2}), "Graph": frozenset({2, 10}),
    "Annotation": frozenset({1}), "Function": frozenset({1, 4, 5, 6, 8, 10, 13}),
    "Node": frozenset({1, 2, 3, 4, 7, 8}), "Attribute": frozenset({1, 13, 21}), "Tensor": frozenset({8, 12}),
    "Value": frozenset({1, 3}), "Type": frozenset({6}), "Dimension": frozenset({2, 3}),
}  # fmt: skip
_WEIGHTS = frozenset({4, 5, 7, 9, 10, 11})  # TensorProto: float_data ... raw_data ... uint64_data
_NOTES = {("Node", 6), ("Node", 9)}  # doc_string and metadata_props: stack traces, mostly


def load(path: Path) -> onnx.ModelProto:
    """The model without tensors' data above ``KEPT_BYTES``; nothing outside the file is looked at.

    Raises:
        MissingFile, Unreadable: As ``mapped.read_only``.
        Corrupt: It is no ModelProto, or larger than one can be.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    data = mapped.read_only(path)
    if len(data) > MAX_FILE_BYTES:
        raise Corrupt(
            f"`{path}` has {len(data):,} bytes",
            why="an ONNX file ends at 2 GiB, the limit of protobuf",
            fix="save the model with its weights as external data",
        )
    model = onnx.ModelProto()
    try:
        model.ParseFromString(_Walk().strip(data, "Model", 0) or b"")
    except (WireError, DecodeError) as error:
        raise Corrupt(
            f"`{path}` is broken ONNX", why=str(error), fix="get the file again, or export it again"
        ) from error
    return model


@dataclass(slots=True)
class _Walk:
    """Copies a message and leaves out what is large; counts what the parser would allocate."""

    fields: int = 0
    messages: int = 0
    kept_bytes: int = 0

    def strip(self, view: memoryview, kind: str, depth: int) -> bytes | None:
        """The message without weights; None where nothing had to go."""
        if depth > MAX_DEPTH:
            raise WireError(f"messages within messages, {MAX_DEPTH} deep")
        parts: list[bytes] = []
        kept = 0
        for number, wire, at, start, end in protobuf.spans(view):
            self._count(wire)
            if wire != BYTES:
                continue
            stripped = self._field(view[start:end], kind, number, depth)
            if stripped is not None:
                key = _varint(number << 3 | BYTES) + _varint(len(stripped))
                parts += [bytes(view[kept:at]), key, stripped]
                kept = end
        if not parts and depth:
            return None
        self._keep(len(view) - kept)
        return b"".join([*parts, bytes(view[kept:])])

    def _field(self, value: memoryview, kind: str, number: int, depth: int) -> bytes | None:
        """What takes a field's place; None where it stays."""
        child = _CHILDREN.get((kind, number))
        if child is not None:
            return self.strip(value, child, depth + 1)
        large = len(value) > KEPT_BYTES
        if (kind, number) in _NOTES or (kind == "Tensor" and number in _WEIGHTS and large):
            return b""
        return _as_utf8(value) if number in _TEXTS.get(kind, ()) else None

    def _count(self, wire: int) -> None:
        self.fields += 1
        self.messages += wire == BYTES
        if self.messages > MAX_MESSAGES:
            raise WireError(f"more than {MAX_MESSAGES:,} messages")
        if self.fields > MAX_FIELDS:
            raise WireError(f"more than {MAX_FIELDS:,} fields")

    def _keep(self, size: int) -> None:
        self.kept_bytes += size
        if self.kept_bytes > MAX_NUMBERS_BYTES:
            raise WireError(f"more than {MAX_NUMBERS_BYTES:,} bytes beside its weights")


def _as_utf8(value: memoryview) -> bytes | None:
    """The text with what is not UTF-8 replaced; None where nothing is."""
    try:
        str(value, "utf-8")
    except UnicodeDecodeError:
        return str(value, "utf-8", "replace").encode()
    return None


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
