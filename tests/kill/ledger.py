"""The harness's table: kinds of fault, times tried, times that something was lost or wrong."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from antar.core.machine import machine_facts, package_versions

Trial = dict[str, Any]
KINDS = {
    "SIGKILL before a file operation": "then the same command until it ends; all files bit-identical",
    "SIGKILL at a moment": "of CPU time, drawn over the stage's length; the same",
    "SIGINT": "one line, exit code 130, nothing half written; then the same command",
    "SIGTERM": "one line, exit code 143, nothing half written; then the same command",
    "full disk": "one line, exit code 2, nothing half written; after room is made the same command",
    "read-only mount": "one line, exit code 2; `show`, `plan`, `serve` and `load_run` still read",
    "file cut short": "found, named, made again bit-identically",
    "byte flipped": "found, named, made again bit-identically (a lock file is refused, a paid call kept aside)",
    "byte flipped in a killed run": "what no manifest covers yet (shards, records, ...): made again bit-identically",
    "manifest of another": "another study's, a sibling's, or its shard: nothing is taken for what it is not",
    "two runs in one folder": "the second is told who works there, exit code 2; the first ends well",
}
"""Kind of fault → what must come of it."""


class Ledger:
    """Each trial is a line in `path` as soon as it has ended (None: kept here only): a harness that is stopped itself
    loses none, and its parts may be run one after another."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self.trials: list[Trial] = []

    @contextmanager
    def trial(self, kind: str, where: str, times: int = 1) -> Generator[None]:
        """One fault (or `times`), and all that must come of it; an exception counts as lost or wrong."""
        assert kind in KINDS
        wrong = 1
        try:
            yield
            wrong = 0
        finally:
            self.trials.append({"fault": kind, "where": where, "times": times, "wrong": wrong})
            if self._path is not None:
                with self._path.open("a", encoding="utf-8") as handle:
                    handle.write(json.dumps(self.trials[-1]) + "\n")

    def hits(self, where: str, *kinds: str) -> int:
        return sum(one["times"] for one in self.trials if one["where"] == where and one["fault"] in kinds)


def table(trials: list[Trial]) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for kind, must in KINDS.items():
        its = [one for one in trials if one["fault"] == kind]
        where: Counter[str] = Counter()
        for one in its:
            where[one["where"]] += one["times"]
        counts = {"tried": where.total(), "lost_or_wrong": sum(one["wrong"] for one in its)}
        rows.append({"fault": kind, "must": must, **counts, "where": {key: n for key, n in where.items() if n}})
    about = {"date": date.today().isoformat(), "machine": machine_facts(), "versions": package_versions()}
    return {"made_by": "make test-kill", **about, "faults": rows}


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


def write_table(trials: Path, root: Path) -> None:
    found = table([json.loads(line) for line in trials.read_text(encoding="utf-8").splitlines()])
    (root / "benchmarks" / "results" / "survival.json").write_text(
        json.dumps(found, ensure_ascii=False, indent=2) + "\n", encoding="utf-8"
    )
    (root / "docs" / "survival.md").write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    write_table(Path(sys.argv[1]), Path(__file__).parents[2])
