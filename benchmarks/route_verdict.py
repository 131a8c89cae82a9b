"""Whether a graph of mlconv's has more nodes or bytes, is less accurate or slower than the best of other tools' graphs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from benchmarks.paired import Ratio

ROOM_BYTES = 4096
"""mlconv's own metadata: where the model came from and how it was made."""
ROOM_DIFFERENCE = 2e-6
"""Below this, by the greatest output, two float32 graphs differ by the order of their sums."""
ROOM_TIME = 1.05
"""The lower end of the latency ratio's interval may be this before mlconv's graph counts as slower: two sessions of one file
lie up to 4 % apart (1.04, 1.02 to 1.07, in one of eight), by where their memory happens to be."""


@dataclass(frozen=True, slots=True)
class Made:
    """One tool's graph.

    Attributes:
        fails: Why there is none; the rest is empty then.
        difference: From the framework's answers, by the greatest output, at a batch that no exporter saw.
        slower: mlconv's time in onnxruntime over this graph's; None for mlconv itself.
    """

    fails: str = ""
    nodes: int = 0
    size_bytes: int = 0
    difference: float = 0.0
    slower: Ratio | None = None


def lost(made: Mapping[str, Made]) -> dict[str, str]:
    """By measure, what mlconv's graph loses against the best of the others."""
    ours, others = (
        made["mlconv"],
        {tool: one for tool, one in made.items() if tool != "mlconv" and not one.fails},
    )
    told = {}
    for measure, room in (("nodes", 0.0), ("size_bytes", ROOM_BYTES), ("difference", ROOM_DIFFERENCE)):
        tool, best = min(
            ((tool, getattr(one, measure)) for tool, one in others.items()),
            key=lambda pair: pair[1],
            default=("", np.inf),
        )
        if getattr(ours, measure) > best + room:
            told[measure] = f"{getattr(ours, measure):,.6g}, {tool} {best:,.6g}"
    for tool, one in others.items():
        if one.slower is not None and one.slower.low > ROOM_TIME:
            told["latency"] = f"{one.slower} of {tool}'s"
    return told
