"""Shape arithmetic that several families share, on the sizes that a file tells."""

from __future__ import annotations

from mlconv.formats.tflite_graph import Tensor


def sizes(tensor: Tensor | None, rank: int) -> tuple[int, ...] | None:
    """A tensor's sizes where it has that rank, dynamic ones as 1."""
    if tensor is None or len(tensor.shape) != rank:
        return None
    return tuple(1 if size < 0 else size for size in tensor.shape)
