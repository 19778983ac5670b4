"""Ctrl-C and SIGTERM: who asked this process to stop, whatever becomes of the exception that says so."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

stopped_by: list[int] = []
"""The signals that have asked this process to stop. Ctrl-C in the middle of a library's import or callback may come
back as an error of another name, so what counts is that it was asked."""


def listen() -> None:
    """From now on both signals raise KeyboardInterrupt, and are remembered."""
    sys.unraisablehook = _asked_again
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup and background jobs ask not to be stopped
            signal.signal(number, _stop)


def _stop(number: int, _frame: FrameType | None) -> None:
    stopped_by.append(number)
    raise KeyboardInterrupt


def _asked_again(swallowed: UnraisableHookArgs) -> None:
    """Python drops what is raised in a finalizer, also a request to stop that came there: it is made again."""
    if not (stopped_by and isinstance(swallowed.exc_value, KeyboardInterrupt)):
        sys.__unraisablehook__(swallowed)
        return
    again = threading.Timer(0.05, os.kill, (os.getpid(), stopped_by[0]))
    again.daemon = True
    again.start()
