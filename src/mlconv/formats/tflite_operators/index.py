"""Gathering, scattering, segments and what makes tensors from shapes."""

from __future__ import annotations

from mlconv.formats.tflite_operators.entry import TfliteOperator

OPERATORS = (
    TfliteOperator("GATHER", "index:gather", exact="8-bit", versions=7),
    TfliteOperator("GATHER_ND", "index:gather_nd", exact="8-bit", versions=5),
    TfliteOperator("EMBEDDING_LOOKUP", "index:embedding_lookup", versions=5, limits="tables quantized by blocks"),
    TfliteOperator("WHERE", "index:where", versions=2, limits="a scalar"),
    TfliteOperator("ONE_HOT", "index:one_hot"),
    TfliteOperator("UNIQUE", "index:unique"),
    TfliteOperator("CUMSUM", "index:cumsum", limits="an axis computed while the model runs"),
    TfliteOperator("MATRIX_DIAG", "index:matrix_diag", limits="matrices of dynamic size"),
    TfliteOperator("MATRIX_SET_DIAG", "index:matrix_set_diag", limits="matrices of dynamic size"),
    TfliteOperator("SCATTER_ND", "scatter:scatter_nd", limits="indices that may repeat, before opset 16"),
    TfliteOperator("SPARSE_TO_DENSE", "scatter:sparse_to_dense", versions=3),
    TfliteOperator("DYNAMIC_UPDATE_SLICE", "scatter:dynamic_update_slice", versions=5, limits="an update of dynamic size"),
    TfliteOperator("SEGMENT_SUM", "scatter:segment_sum", limits="opsets before 16"),
    TfliteOperator("UNSORTED_SEGMENT_SUM", "scatter:unsorted_segment_sum", limits="opsets before 16"),
    TfliteOperator("UNSORTED_SEGMENT_PROD", "scatter:unsorted_segment_prod", limits="opsets before 16"),
    TfliteOperator("UNSORTED_SEGMENT_MAX", "scatter:unsorted_segment_max", limits="opsets before 18"),
    TfliteOperator("UNSORTED_SEGMENT_MIN", "scatter:unsorted_segment_min", limits="opsets before 18"),
    TfliteOperator("EMBEDDING_LOOKUP_SPARSE", "scatter:embedding_lookup_sparse", limits="opsets before 16"),
    TfliteOperator("HASHTABLE_LOOKUP", limits="ONNX has no tables that are searched by key"),
    TfliteOperator("LSH_PROJECTION", limits="ONNX has no hash of TFLite's kind"),
    TfliteOperator("SKIP_GRAM", limits="it splits text"),
    TfliteOperator("CONCAT_EMBEDDINGS", limits="no runtime of TFLite has it"),
)  # fmt: skip
