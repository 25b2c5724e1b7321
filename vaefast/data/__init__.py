"""Find, fetch, verify, read and split data: `load` gives a `Dataset` of two `Images`, `read` the `Rows` of one,
`read_numbers` a table of any numbers, and `read_any` pictures or a table, as it finds them."""

from vaefast.data.choices import Reading
from vaefast.data.images import Dataset, Images, Rows
from vaefast.data.kindsfile import Kinds
from vaefast.data.numbers import Numbers
from vaefast.data.numbersfile import numbers_of
from vaefast.data.shards import ShardedImages
from vaefast.data.sources import file_of, load, may_be_table, read, read_any, read_numbers, width_without_names
from vaefast.data.split import joined, split, unsplit

__all__ = [
    "Dataset", "Images", "Kinds", "Numbers", "Reading", "Rows", "ShardedImages", "file_of", "joined", "load", "may_be_table",
    "numbers_of", "read", "read_any", "read_numbers", "split", "unsplit", "width_without_names",
]  # fmt: skip
