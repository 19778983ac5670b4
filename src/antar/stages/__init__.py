"""The stages of a study, one module each: what a stage's artifacts depend on, and how it makes them.

They hold no method of their own. Each calls its room and puts what comes back into the run folder.
"""
