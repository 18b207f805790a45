"""What turns texts into vectors: the packaged model in ONNX Runtime, or any model by sentence-transformers."""
