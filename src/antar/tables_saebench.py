"""What the command line prints of SAEBench's evaluations: the numbers, and why the others were not made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from antar.criteria.benchmarks import BenchmarkRow, Benchmarks
from antar.report.text import number
from antar.run import load_run


def show_benchmarks(folder: Path) -> None:
    """As criteria.json of the run in `folder` has them; nothing where SAEBench was not run."""
    found = load_run(folder).benchmarks
    if found is not None:
        show_found(found)


def show_found(found: Benchmarks) -> None:
    out = Console(highlight=False, emoji=False)
    if not out.is_terminal:  # a pipe has no width of its own
        out = Console(highlight=False, emoji=False, width=max(out.width, 120))
    for evaluation in dict.fromkeys(row.evaluation for row in found.rows):
        out.print(_table(evaluation, [row for row in found.rows if row.evaluation == evaluation]))
    if found.not_run:
        table = Table(title="SAEBench, not run", title_justify="left")
        for name in ("evaluation", "dictionaries", "why"):
            table.add_column(name, overflow="fold")
        for one in found.not_run:
            table.add_row(one.evaluation, Text(_listed(one.dictionaries)), Text(one.reason))
        out.print(table)
    out.print(Text(found.advice))


def _table(evaluation: str, rows: Sequence[BenchmarkRow]) -> Table:
    table = Table(title=f"SAEBench, {evaluation}", title_justify="left")
    names = list(dict.fromkeys(name for row in rows for name in row.numbers))
    for name in ("dictionary", *names):
        table.add_column(name, overflow="fold")
    for row in rows:
        cells = [number(row.numbers.get(name)) for name in names]
        who = Text(f"{row.dictionary} (null)", "dim") if row.null else Text(row.dictionary)
        table.add_row(who, *cells)
    return table


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{len(names)} dictionaries"
