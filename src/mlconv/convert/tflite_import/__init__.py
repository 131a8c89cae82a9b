"""mlconv's own importer of TFLite: flatbuffer in, ``onnx_ir`` out, no TensorFlow on the way.

importer.py      a model: entry point, operators in order, what cannot be expressed, boundaries
emit.py          ``Emitter``: the ONNX graph in the making, and TFLite tensors as ONNX values
codes.py         how a quantized tensor is stored: uint8 codes, clamps of fused activations
chains.py        runs of pointwise operators on 8-bit codes, written as the one table that they are
exact/           constants that make onnxruntime's rounding LiteRT's
isa.py           which processor the 8-bit weights are written for
ops/<family>.py  one function per operator; named by ``formats/tflite_operators``
"""
