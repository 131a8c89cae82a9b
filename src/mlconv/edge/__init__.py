"""The Edge TPU. Its commands come with later versions; compiled files are recognised in ``formats.tflite``."""
