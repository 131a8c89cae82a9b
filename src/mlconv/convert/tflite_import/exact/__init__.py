"""Constants and tables that make onnxruntime answer what LiteRT does: LiteRT's integer arithmetic, in numpy."""
