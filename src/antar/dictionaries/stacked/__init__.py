"""Dictionaries of one shape trained together on one device: `train_stacked`, and what it is given.

jobs.py says what goes into a stack, step.py what a step computes, update.py (and kernels.py) how it changes the
weights, graphs.py how it is run on a CUDA device, state.py what lies on the device, train.py the loop.
"""

from antar.dictionaries.stacked.jobs import StackedJob, group_by_shape, largest_stack
from antar.dictionaries.stacked.train import train_stacked

__all__ = ["StackedJob", "group_by_shape", "largest_stack", "train_stacked"]
