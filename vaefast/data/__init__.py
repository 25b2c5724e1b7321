"""Find, fetch, verify, read and split image sets: `load` gives a `Dataset` of two `Images`, `read` the `Rows` of one."""

from vaefast.data.images import Dataset, Images, Rows
from vaefast.data.shards import ShardedImages
from vaefast.data.sources import load, read
from vaefast.data.split import split

__all__ = ["Dataset", "Images", "Rows", "ShardedImages", "load", "read", "split"]
