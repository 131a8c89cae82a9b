"""``.safetensors``: a length, a JSON header, the bytes (https://github.com/huggingface/safetensors#format)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlconv.formats import mapped, parameters
from mlconv.formats.archive import broken
from mlconv.tensors import TensorSpec

HEADER_LIMIT = 100_000_000  # bytes; the reference implementation's MAX_HEADER_SIZE, safetensors/src/tensor.rs
_DTYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "U16": "uint16", "I32": "int32", "U32": "uint32",
    "I64": "int64", "U64": "uint64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
    "C64": "complex64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz", "F4": "float4_e2m1fn",
}  # fmt: skip


def is_safetensors(head: bytes) -> bool:
    """Whether a file begins as one: a plausible length, then a JSON object. Ten bytes are enough."""
    return (
        len(head) >= 10
        and head[8:9] == b"{"
        and head[9:10] in b'"} \n'
        and _header_bytes(head) <= HEADER_LIMIT
    )


def read_header(path: Path) -> tuple[dict[str, TensorSpec], dict[str, str]]:
    """Tensors by name, in the order of their bytes, and the author's metadata.

    Raises:
        Corrupt: The header is damaged, or a tensor lies outside the file, in another one, or is not as long as its shape.
    """
    data = mapped.read_only(path)
    size = _header_bytes(bytes(data[:8])) if len(data) >= 8 else 0
    if len(data) < 8 or size > min(len(data) - 8, HEADER_LIMIT):
        raise broken(path, f"its header of {size:,} bytes does not fit into {len(data):,}")
    try:
        header = json.loads(bytes(data[8 : 8 + size]))
        metadata = header.pop("__metadata__", {})
        return _tensors(header, len(data) - 8 - size), {
            str(key): str(value) for key, value in metadata.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise broken(path, f"its header cannot be read: {error}") from error


def _tensors(header: dict[str, Any], data_bytes: int) -> dict[str, TensorSpec]:
    found: dict[str, TensorSpec] = {}
    end = 0
    for name, entry in sorted(header.items(), key=lambda item: tuple(item[1]["data_offsets"])):
        start, stop = entry["data_offsets"]
        shape = tuple(entry["shape"])
        dtype = _DTYPES.get(entry["dtype"])
        if dtype is None:
            raise ValueError(f"`{name}` has the dtype {entry['dtype']!r}")
        if not all(isinstance(dim, int) and dim >= 0 for dim in (*shape, start, stop)) or len(shape) > 64:
            raise ValueError(f"`{name}` has the shape {shape}")
        if (
            start != end
            or stop - start != parameters.bytes_of(parameters.elements(shape), dtype)
            or stop > data_bytes
        ):
            raise ValueError(f"`{name}` lies at bytes {start} to {stop} of {data_bytes}")
        found[name], end = TensorSpec(name, shape, dtype), stop
    return found


def _header_bytes(head: bytes) -> int:
    return int.from_bytes(head[:8], "little")
