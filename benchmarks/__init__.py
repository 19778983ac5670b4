"""Benchmarks: one script for each claim of speed. Results lie in `results/`, with the facts of the machine."""
