"""A trained model at work: rows through its networks on an engine, and its export to ONNX.

Training stands in `vaefast/training`, the estimator in `vaefast/estimator`.
"""
