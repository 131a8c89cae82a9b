"""How each TFLite operator is written in ONNX: one function per operator, ``(Emitter, Operator) -> None``, by family."""
