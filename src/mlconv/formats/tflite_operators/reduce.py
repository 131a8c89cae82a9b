"""Reductions, arg-reductions and what sorts."""

from __future__ import annotations

from mlconv.formats.tflite_operators.entry import TfliteOperator

_ORDER = "; boxes of equal scores come in the order of their indices, and one without area once"

OPERATORS: tuple[TfliteOperator, ...] = (
    TfliteOperator("MEAN", "reduce:mean", exact="8-bit", versions=3, limits="constant axes"),
    TfliteOperator("SUM", "reduce:sum_", exact="8-bit", versions=2, limits="constant axes"),
    TfliteOperator("REDUCE_PROD", "reduce:reduce_prod", versions=2, limits="constant axes; float numbers and integers, not quantized; integers along an axis of unknown size, up to 2**53"),
    TfliteOperator("REDUCE_MAX", "reduce:reduce_max", exact="8-bit", versions=3, limits="constant axes"),
    TfliteOperator("REDUCE_MIN", "reduce:reduce_min", exact="8-bit", versions=3, limits="constant axes"),
    TfliteOperator("REDUCE_ANY", "reduce:reduce_any", limits="constant axes"),
    TfliteOperator("REDUCE_ALL", "reduce:reduce_all", limits="constant axes"),
    TfliteOperator("ARG_MAX", "order:arg_max", versions=3, limits="a constant axis"),
    TfliteOperator("ARG_MIN", "order:arg_min", versions=3, limits="a constant axis"),
    TfliteOperator("TOPK_V2", "order:topk_v2", versions=3),
    TfliteOperator("BUCKETIZE", "order:bucketize"),
    TfliteOperator("NON_MAX_SUPPRESSION_V4", "order:non_max_suppression_v4", limits=f"a constant overlap threshold{_ORDER}"),
    TfliteOperator("NON_MAX_SUPPRESSION_V5", "order:non_max_suppression_v5", limits=f"a constant overlap threshold, no soft suppression{_ORDER}"),
)  # fmt: skip
