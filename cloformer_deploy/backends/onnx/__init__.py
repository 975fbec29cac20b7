"""ONNX files: writing, describing, quantizing and running them."""
