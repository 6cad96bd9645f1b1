"""Trained models in formats that other programs read: safetensors, ONNX, torch.export."""
