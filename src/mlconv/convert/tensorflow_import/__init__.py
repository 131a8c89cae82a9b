"""TensorFlow, Keras and TFLite sources on their way through tf2onnx: its repairs, and the names that users know."""
