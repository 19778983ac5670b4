"""Progress of long work: a bar with rate and time left on a terminal, plain lines elsewhere.

Plain lines come at most every `PLAIN_SECONDS`, so that a Slurm log stays readable.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

PLAIN_SECONDS = 10.0

# Neither markup nor emoji codes: `sham:a: 3` is a side and a number.
console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def say(message: str) -> None:
    """One line for a person, on standard error. Square brackets in `message` are text, not markup."""
    console.print(message, markup=False)


class Bar(Protocol):
    """What long work holds in its hand."""

    def advance(self, n: int = 1) -> None: ...

    def note(self, text: str) -> None:
        """A short fact beside the bar, such as the current loss."""
        ...


def _rate(speed: float) -> str:
    return f"{speed:,.0f}" if speed >= 10 else f"{speed:.2g}"


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{_rate(speed)} {task.fields['unit']}/s", style="cyan")


class _TerminalBar:
    def __init__(self, progress: Progress, task: int) -> None:
        self._progress = progress
        self._task = task

    def advance(self, n: int = 1) -> None:
        self._progress.advance(self._task, n)  # pyright: ignore[reportArgumentType]  (TaskID is an int)

    def note(self, text: str) -> None:
        self._progress.update(self._task, note=text)  # pyright: ignore[reportArgumentType]


class _PlainBar:
    def __init__(self, title: str, total: int, unit: str) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._done, self._note = 0, ""
        self._started = self._spoke = time.monotonic()

    def advance(self, n: int = 1) -> None:
        self._done += n
        now = time.monotonic()
        if now - self._spoke >= PLAIN_SECONDS and self._done < self._total:
            self._spoke = now
            rate = self._done / (now - self._started)
            left = (self._total - self._done) / rate if rate else float("inf")
            say(
                f"  {self._title}: {self._done:,} of {self._total:,} {self._unit}, "
                f"{_rate(rate)}/s, {left:,.0f} s left {self._note}".rstrip()
            )

    def note(self, text: str) -> None:
        self._note = text


@contextmanager
def progress(title: str, total: int, unit: str = "items") -> Generator[Bar]:
    """Show the progress of `total` units of work called `title` while the block runs."""
    if not (console.is_terminal and sys.stderr.isatty()):
        yield _PlainBar(title, total, unit)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        yield _TerminalBar(bars, bars.add_task(f"  {title}", total=total, unit=unit, note=""))
