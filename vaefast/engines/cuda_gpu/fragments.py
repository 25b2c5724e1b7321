"""Where the parts of a lane stand in the matrices of `mma.m16n8k8`: shifts and masks of the lane's number.

Source: PTX ISA, "Matrix fragments for mma.m16n8k8", .tf32.
"""

from __future__ import annotations

from vaefast.engines.cuda_gpu.target import device


@device
def left_row(lane, part):
    """Row in A of parts 0 to 3."""
    return (lane >> 2) + (part & 1) * 8


@device
def left_depth(lane, part):
    """Column in A of parts 0 to 3."""
    return (lane & 3) + (part >> 1) * 4


@device
def right_depth(lane, part):
    """Row in B of parts 0 and 1."""
    return (lane & 3) + part * 4


@device
def right_column(lane):
    """Column in B of both parts."""
    return lane >> 2


@device
def left_place(lane, line):
    """Where a lane's part 0 of A is staged."""
    return left_depth(lane, 0) * line + left_row(lane, 0)


@device
def right_place(lane, line):
    """Where a lane's part 0 of B is staged."""
    return right_depth(lane, 0) * line + right_column(lane)


@device
def result_row(lane, part):
    """Row in C of parts 0 to 3."""
    return (lane >> 2) + (part >> 1) * 8


@device
def result_column(lane, part):
    """Column in C of parts 0 to 3."""
    return (lane & 3) * 2 + (part & 1)
