"""The data of a command, from its flags to the inputs of an engine: find, split, scale, and record them.

Reading files is the work of `vaefast/data`, and scaling is the work of `vaefast/tables`. Nothing is printed here.
"""

from vaefast.inputs.run_data import Part, RunData, ScoredData, for_pictures, for_table, in_file, to_score
from vaefast.inputs.source import Source
from vaefast.inputs.told import ToldColumns

__all__ = ["Part", "RunData", "ScoredData", "Source", "ToldColumns", "for_pictures", "for_table", "in_file", "to_score"]
