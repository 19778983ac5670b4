"""The harness's table: kinds of fault, times tried, times that something was lost or wrong."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from antar.core.machine import machine_facts, package_versions

KINDS = {
    "SIGKILL before a file operation": "then the same command until it ends; all files bit-identical",
    "SIGKILL at a moment": "of CPU time, drawn over the stage's length; the same",
    "SIGINT": "one line, exit code 130, nothing half written; then the same command",
    "SIGTERM": "one line, exit code 143, nothing half written; then the same command",
    "full disk": "one line, exit code 2, nothing half written; after room is made the same command",
    "read-only mount": "one line, exit code 2; `show`, `plan`, `serve` and `load_run` still read",
    "file cut short": "found, named, made again bit-identically",
    "byte flipped": "found, named, made again bit-identically (a lock file is refused, a paid call kept aside)",
    "byte flipped in a killed run": "what no manifest covers yet: shards, records, checkpoints; the same",
    "manifest of another": "another study's, or a sibling's: nothing is taken for what it is not",
    "two runs in one folder": "the second is told who works there, exit code 2; the first ends well",
}
"""Kind of fault → what must come of it."""


class Ledger:
    def __init__(self) -> None:
        self.tried: Counter[tuple[str, str]] = Counter()
        self.wrong: Counter[str] = Counter()

    @contextmanager
    def trial(self, kind: str, where: str, times: int = 1) -> Generator[None]:
        """One fault, and all that must come of it; an exception counts as lost or wrong."""
        assert kind in KINDS
        self.tried[kind, where] += times
        try:
            yield
        except BaseException:
            self.wrong[kind] += 1
            raise

    def times(self, kind: str) -> int:
        return sum(n for (one, _), n in self.tried.items() if one == kind)

    def as_json(self) -> dict[str, Any]:
        rows = [
            {
                "fault": kind,
                "must": must,
                "tried": self.times(kind),
                "lost_or_wrong": self.wrong[kind],
                "where": {where: n for (one, where), n in sorted(self.tried.items()) if one == kind},
            }
            for kind, must in KINDS.items()
        ]
        about = {"date": date.today().isoformat(), "machine": machine_facts(), "versions": package_versions()}
        return {"made_by": "make test-kill", **about, "faults": rows}

    def write(self, path: Path) -> None:
        """The JSON at `path`, and the page for people in `docs/`."""
        found = self.as_json()
        path.write_text(json.dumps(found, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        (path.parents[2] / "docs" / "survival.md").write_text(page(found), encoding="utf-8")


def page(found: dict[str, Any]) -> str:
    rows = [
        f"| {row['fault']} | {row['tried']} | {row['lost_or_wrong']} | {row['must']} |" for row in found["faults"]
    ]
    kills = [row for row in found["faults"] if row["fault"].startswith("SIGKILL")]
    stages: Counter[str] = Counter()
    for row in kills:
        stages.update(row["where"])
    hit = ", ".join(f"{stage} {n}" for stage, n in stages.items())
    machine = found["machine"]
    return "\n".join([
        "# What a run survives",
        "",
        "Made by `make test-kill` (`tests/kill/`), which breaks a small study of every stage on purpose and then "
        "gives the same command again. “Wrong” is a result that differs in one bit from that of a run nobody "
        "disturbed, a file that is left over, a fault that is not named, or a traceback.",
        "",
        "| fault | tried | lost or wrong | what must come of it |",
        "|---|---|---|---|",
        *rows,
        "",
        f"Stages that the {sum(stages.values())} SIGKILLs hit: {hit}.",
        "",
        f"{found['date']}, {machine['cores']} cores of {machine['cpu']}, {machine['system']}, Python "
        f"{machine['python']}, torch {found['versions'].get('torch')}.",
        "",
    ])  # fmt: skip
