"""Inference with a trained model on an engine, and its export to ONNX.

Training is in `vaefast/training`, the estimator in `vaefast/estimator`.
"""
