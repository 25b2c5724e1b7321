"""Find, fetch, verify, read and split image sets: `load` gives a `Dataset` of two `Images`."""

from vaefast.data.images import Dataset, Images
from vaefast.data.shards import ShardedImages
from vaefast.data.sources import load

__all__ = ["Dataset", "Images", "ShardedImages", "load"]
