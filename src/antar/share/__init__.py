"""A run for others: what Neuronpedia, the hub, `datasets`, a spreadsheet and a paper read; and a run from the hub.

Nothing here computes a result. What is written is whole or absent, says where it comes from, and holds no texts,
paths or keys that nobody asked to give away.
"""
