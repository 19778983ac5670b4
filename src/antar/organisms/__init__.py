"""Organisms: model pairs whose difference we planted, so that what a study finds can be scored against the truth."""
