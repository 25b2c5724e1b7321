"""TVAE of the package ctgan (Xu et al., 2019), as it comes: `PYTHON ctgan_tvae.py TABLE SAMPLES ROWS SEED DISCRETE...`.

TABLE and SAMPLES are CSV files: training rows, and where to write as many new rows as ROWS says. DISCRETE are the columns of
categories. The seconds that all cores spend on the training are printed.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import pandas as pd
import torch
from ctgan import TVAE


def main() -> None:
    """Train, and write samples."""
    table, samples, rows, seed, *discrete = sys.argv[1:]
    np.random.seed(int(seed))  # noqa: NPY002, ctgan draws from it
    torch.manual_seed(int(seed))
    train = pd.read_csv(table, dtype=dict.fromkeys(discrete, str), keep_default_na=False)
    start = time.process_time()
    model = TVAE(enable_gpu=False)
    model.fit(train, discrete)
    print(time.process_time() - start)
    model.sample(int(rows)).to_csv(samples, index=False)


if __name__ == "__main__":
    main()
