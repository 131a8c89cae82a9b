"""What was done to pictures, as records and documents tell it."""

from __future__ import annotations

from dataclasses import dataclass

from mlconv.tensors import Quantization


@dataclass(frozen=True, slots=True)
class Preprocessed:
    """``checks.parity.preprocess``.

    Attributes:
        asked: PREPROCESS as the user wrote it.
        stages: What it came to for this input, every default made explicit, in the order in which it happened; joined by
            commas it is a PREPROCESS that does the same. ``file.py:callable`` alone where that did it.
        pictures: How many were fed.
        classes: The folder's classes in the order of their labels.
        range: The least and the greatest number that came out of the stages, over all pictures.
        quantization: How these numbers became the integers of a quantized input; None where the input takes them as they are.
        sha256: Of the callable's file.
    """

    asked: str
    stages: tuple[str, ...]
    pictures: int
    classes: tuple[str, ...] = ()
    range: tuple[float, float] | None = None
    quantization: Quantization | None = None
    sha256: str | None = None
