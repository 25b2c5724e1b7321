"""Find, fetch, verify, read and split image sets: `load` gives a `Dataset` of two `Images`, `read` the `Rows` of one, and
`read_numbers` a table of any numbers."""

from vaefast.data.images import Dataset, Images, Rows
from vaefast.data.numbers import Numbers, numbers_of, read_numbers
from vaefast.data.shards import ShardedImages
from vaefast.data.sources import load, read
from vaefast.data.split import joined, split, unsplit

__all__ = [
    "Dataset", "Images", "Numbers", "Rows", "ShardedImages", "joined", "load", "numbers_of", "read", "read_numbers", "split",
    "unsplit",
]  # fmt: skip
