"""Errors that a person reads.

A `UserError` is a mistake in the input: the command line prints it as one line and exits with code 2. Anything
else that escapes is a defect of antar's and keeps its traceback.
"""

from __future__ import annotations


class UserError(Exception):
    """One line: what was expected, what was found, where, and what to do."""


class AntarWarning(UserWarning):
    """A result stands, but a reader must know something about it. An error in antar's own tests."""
