"""An exported model as ONNX, in float32 and in the smaller forms that onnxruntime computes."""
