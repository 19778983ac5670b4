"""Progress of long work: a bar with rate and time left on a terminal, plain lines elsewhere.

Plain lines come at most every `PLAIN_SECONDS`, so that a Slurm log stays readable. A worker of another process shows
nothing itself: `collected` keeps its lines for the driver, which has the bars.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Sequence
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


_collected: list[str] | None = None


def say(message: str) -> None:
    """One line for a person, on standard error. Square brackets in `message` are text, not markup."""
    if _collected is not None:
        _collected.append(message)
        return
    console.print(message, markup=False)


@contextmanager
def collected() -> Generator[list[str]]:
    """What the process says while the block runs, instead of it being shown; bars are not shown either."""
    global _collected
    before, _collected = _collected, []
    try:
        yield _collected
    finally:
        _collected = before


class Bar(Protocol):
    """What long work holds in its hand."""

    def advance(self, n: int = 1) -> None: ...

    def leave_out(self, n: int) -> None:
        """So much of the total is there already: it is not to be done, and says nothing about the rate."""
        ...

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

    def leave_out(self, n: int) -> None:
        total = self._progress.tasks[0].total or 0  # a bar of antar's has one task
        self._progress.update(self._task, total=total - n)  # pyright: ignore[reportArgumentType]

    def note(self, text: str) -> None:
        self._progress.update(self._task, note=text)  # pyright: ignore[reportArgumentType]


class _PlainBar:
    def __init__(self, title: str, total: int, unit: str) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._done, self._note = 0, ""
        self._spoke = time.monotonic()
        # The rate counts from the first step on: what went before it (weights to load, workers to start) is
        # done once.
        self._began: tuple[float, int] | None = None

    def advance(self, n: int = 1) -> None:
        self._done += n
        self._began = self._began or (time.monotonic(), self._done)
        self._speak()

    def leave_out(self, n: int) -> None:
        self._total -= n

    def note(self, text: str) -> None:
        self._note = text
        self._speak()

    def _speak(self) -> None:
        """A line, where the last one is old enough. A note may come long before the next step is done."""
        now = time.monotonic()
        if now - self._spoke < PLAIN_SECONDS or self._done >= self._total:
            return
        self._spoke = now
        since, before = self._began or (now, 0)
        rate = (self._done - before) / (now - since) if now > since else 0.0
        left = f", {_rate(rate)}/s, {(self._total - self._done) / rate:,.0f} s left" if rate else ""
        say(f"  {self._title}: {self._done:,} of {self._total:,} {self._unit}{left} {self._note}".rstrip())


class _NoBar:
    def advance(self, n: int = 1) -> None: ...

    def leave_out(self, n: int) -> None: ...

    def note(self, text: str) -> None: ...


class ShardBar:
    """A bar over shards of known sizes: advanced piece by piece where the work is done in this process, or by whole
    shards where it is only heard of. Several may advance one bar."""

    def __init__(self, bar: Bar, sizes: Sequence[int]) -> None:
        self._bar, self._sizes, self._ahead = bar, sizes, 0

    def advance(self, n: int = 1) -> None:
        """A piece of the shard that is being made here."""
        self._ahead += n
        self._bar.advance(n)

    def note(self, text: str) -> None:
        self._bar.note(text)

    def leave_out(self, n: int) -> None:
        self._bar.leave_out(n)

    def done(self, shard: int) -> None:
        self._bar.advance(self._sizes[shard] - self._ahead)
        self._ahead = 0

    def kept(self, shard: int) -> None:
        """The shard was there before."""
        self._bar.leave_out(self._sizes[shard])


@contextmanager
def progress(title: str, total: int, unit: str = "items") -> Generator[Bar]:
    """Show the progress of `total` units of work called `title` while the block runs."""
    if _collected is not None:
        yield _NoBar()
        return
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
