"""The training loop and what goes with it: schedules, early stopping, the guard against divergence, progress, TensorBoard.

Gradients and steps are computed by the engines. Checkpoints are in `vaefast/runs`.
"""
