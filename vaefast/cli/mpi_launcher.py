"""Rank and number of processes, as an MPI launcher such as `mpiexec` sets them in the environment. Imports no MPI."""

from __future__ import annotations

import os

# Of Hydra (MPICH, Intel MPI, and srun with PMI), Open MPI, MVAPICH, and srun with PMIx.
RANKS = (
    ("PMI_SIZE", "PMI_RANK"),
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"),
    ("SLURM_NTASKS", "PMIX_RANK"),
)


def launched() -> tuple[int, int]:
    """Rank of this process and number of ranks; (0, 1) if no launcher has started several."""
    for size, rank in RANKS:
        numbers = os.environ.get(rank, ""), os.environ.get(size, "")
        if all(text.isdecimal() for text in numbers) and int(numbers[1]) > 1:
            return int(numbers[0]), int(numbers[1])
    return 0, 1


def is_leader() -> bool:
    """Whether this process is the one that prints and writes."""
    return launched()[0] == 0
