"""PyTorch and ONNX directories, checked before they are published."""
