"""antar compares two checkpoints of one language model, before and after alignment, from the inside."""

__version__ = "0.1.0"
