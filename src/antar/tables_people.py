"""What `antar annotate agreement` prints and writes. Names come from people, so nothing is read as markup."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from antar.core.atomic import write_json
from antar.people.agreement import Agreement, Statistic
from antar.people.findings import Findings

MEASURES = {"alpha": "Krippendorff's α", "ac1": "Gwet's AC1", "kappa": "Cohen's κ", "raw": "raw"}


def show_findings(findings: Findings) -> None:
    """Agreement of all, by site, language and category; each person beside the validator and beside themselves."""
    console = Console(highlight=False, emoji=False)
    if not any(person.submitted for person in findings.people.values()):
        names = ", ".join(findings.people) or "nobody"
        console.print(Text(f"No item is answered yet ({names}); `antar serve` prints each person's link."))
        return
    if not console.is_terminal:
        console = Console(highlight=False, emoji=False, width=max(console.width, 120))
    table = _table("agreement of people, 95% interval", "question")
    for question, found in findings.questions.items():
        _add(table, question, found)
    console.print(table)
    for split, values in findings.split.items():
        table = _table(f"verdict by {split}", split)
        for value, questions in values.items():
            _add(table, value, questions["verdict"])
        console.print(table)
    validator = findings.validator_name or "none"
    table = _table(f"verdicts of people and of the validator ({validator})", "person")
    for who, person in findings.people.items():
        _add(table, who, person.validator)
    _add(table, "consensus", findings.consensus)
    console.print(table)
    for who, person in findings.people.items():
        time = "" if person.median_seconds is None else f", {person.median_seconds:.0f} s each (median)"
        console.print(
            Text(
                f"{who}: {person.submitted} items{time}; wrong labels not kept {with_interval(person.refused)} of "
                f"{person.wrong_labels}; the same verdict at a second sight "
                f"{with_interval(person.repeated['verdict'].raw)} of {person.repeats}"
            )
        )


def write_findings(path: Path, findings: Findings) -> None:
    write_json(path, asdict(findings))


def with_interval(statistic: Statistic) -> str:
    """The value and its interval to two decimals, or why there is none."""
    if statistic.value is None:
        return f"– ({statistic.reason})"
    if statistic.low is None or statistic.high is None:
        return f"{statistic.value:.2f} ({statistic.reason})"
    return f"{statistic.value:.2f} [{statistic.low:.2f}, {statistic.high:.2f}]"


def _table(title: str, first: str) -> Table:
    table = Table(title=Text(title), title_justify="left")
    for name in (first, *MEASURES.values()):
        table.add_column(Text(name), overflow="fold")
    table.add_column("items", justify="right")
    return table


def _add(table: Table, name: str, found: Agreement) -> None:
    cells = [Text(with_interval(getattr(found, measure))) for measure in MEASURES]
    table.add_row(Text(name), *cells, str(found.items))
