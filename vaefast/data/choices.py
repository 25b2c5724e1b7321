"""How data are read, where there is a choice: `Reading`."""

from __future__ import annotations

from dataclasses import dataclass

from vaefast.data.kindsfile import Kinds


@dataclass(frozen=True)
class Reading:
    """What a reader of any data is told beside their name. What does not suit their kind changes nothing, but for `layer`.

    Parameters
    ----------
    label
        For a file of columns: the column of labels, by its name or by its number from 1. It is never trained on.
    all_columns
        For a file of columns: whether columns that are named like labels are trained on.
    color
        Whether pictures keep their colour channels. Otherwise they become grey, and a notice says so.
    layer
        For an `.h5ad` file: the layer to read instead of X.
    test_fraction
        Share of the images that become the test set if the data have none; at least one image.
    in_memory
        Whether shards are read now. Otherwise their images are `ShardedImages`, and each process reads its part.
    missing
        What a cell of a table may say for a missing value, beside what every reader knows. Pictures have none.
    kinds
        How columns of different kinds are read, and not refused; None to read numbers alone.
    """

    label: str | None = None
    all_columns: bool = False
    color: bool = False
    layer: str | None = None
    test_fraction: float = 0.1
    in_memory: bool = True
    missing: tuple[str, ...] = ()
    kinds: Kinds | None = None


USUAL = Reading()
