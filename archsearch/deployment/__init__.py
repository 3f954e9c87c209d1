"""From a trained network to where it is used: predictions, ONNX files and their check."""
