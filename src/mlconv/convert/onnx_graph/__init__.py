"""ONNX graphs as ``onnx_ir`` values: read, repaired, moved between opsets, halved, put into canonical form, saved."""
