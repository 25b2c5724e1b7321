"""What a run must survive: kills, failing and full disks, damaged checkpoints, mutated inputs.

`python -m tests.faults` runs all of it at full length; the ordinary tests run a short form of each. Every case is a
function of a seed and its number, so that a failure is replayed by naming both.
"""


class Failed(AssertionError):
    """A fault was not survived; the message holds what a person needs to see."""
