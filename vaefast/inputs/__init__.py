"""From what a command is told of its data to what the engines read: found, split, scaled, and recorded to be found again.

Reading files is the work of `vaefast/data`, scaling that of `vaefast/tables`; here the two meet. Nothing is printed.
"""

from vaefast.inputs.run_data import Part, RunData, ScoredData, for_pictures, for_table, in_file, to_score
from vaefast.inputs.source import Source

__all__ = ["Part", "RunData", "ScoredData", "Source", "for_pictures", "for_table", "in_file", "to_score"]
