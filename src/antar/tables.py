"""What the command line prints: the criteria beside their nulls, the plan, the top features. Rich tables on a
terminal, the same text when piped. Labels and texts come from data, so nothing in them is read as markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from antar.interpret.llm.usage import spoken_rate
from antar.run import Run, load_run

if TYPE_CHECKING:
    from antar.pipeline import StagePlan
    from antar.stages.costs import Cost

VERDICT_STYLE = {"pass": "green", "fail": "red", "passes by construction": "yellow", "not measured": "dim"}


def _console() -> Console:
    console = Console(highlight=False, emoji=False)
    # A pipe has no width of its own; the 80 columns that rich assumes break the criteria table.
    return console if console.is_terminal else Console(highlight=False, emoji=False, width=max(console.width, 120))


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _with_interval(value: float | None, interval: Sequence[float] | None) -> str:
    if value is None or not interval:
        return _number(value)
    return f"{_number(value)} [{_number(interval[0])}, {_number(interval[1])}]"


def show_criteria(folder: Path) -> None:
    """The seven criteria of the run in `folder`, each beside its null."""
    run = load_run(folder)
    table = Table(title=f"{run.study['study']}: the seven criteria", title_justify="left")
    for name in ("", "criterion", "value [95% CI]", "threshold", "null", "verdict"):
        table.add_column(name, overflow="fold")
    for row in run.criteria["criteria"]:
        null = row["null"]
        table.add_row(
            str(row["number"]),
            Text(row["name"]),
            _with_interval(row["value"], row["ci"]),
            f"{row['comparison']} {_number(row['threshold'])}",
            Text(f"{_with_interval(null['value'], null['ci'])} ({null['name']})" if null else "–"),
            Text(row["verdict"], style=VERDICT_STYLE.get(row["verdict"], "")),
        )
    console = _console()
    for line in run.criteria["headline"]:
        console.print(Text(line))
    console.print(table)
    if run.truth is not None:
        console.print(Text(_truth_line(run.truth)))


def show_stability(folder: Path) -> None:
    """Criterion 7 of the run in `folder`: its sentence, and the numbers that stand beside it."""
    found = next(one for one in load_run(folder).criteria["criteria"] if one["number"] == 7)
    console = _console()
    console.print(Text(f"stability: {found['verdict']}. {found['sentence']}"))
    for name, value in found["beside"].items():
        console.print(Text(f"  {name}: {value if isinstance(value, str) else _number(value)}"))


def _truth_line(truth: Mapping[str, Any]) -> str:
    return (
        f"planted truth: precision {_number(truth['precision'])}, recall {_number(truth['recall'])}; "
        f"flagged on the second sham {truth['flagged_on_null']}, "
        f"with the same checkpoint on both sides {truth['flagged_same_checkpoint']}"
    )


def show_top_features(folder: Path, top: int) -> None:
    """The `top` features of each contrast, chosen on the selection half and shown with the estimation half's effect.

    Beside the count of features with q < 0.05 stands the same count on each null.
    """
    run = load_run(folder)
    labels = _labels(run)
    pooled = run.contrasts.filter(pl.col("language") == "pooled")
    console = _console()
    for (contrast,), rows in sorted(pooled.group_by("contrast")):
        chosen = rows.filter((pl.col("null") == "") & (pl.col("q_select") < 0.05))
        best = chosen.sort(pl.col("d_av_select").abs(), descending=True).unique("feature", keep="first").head(top)
        table = Table(title=f"{contrast}: {_shares(rows)}", title_justify="left")
        for name in ("feature", "of", "d_av [95% CI]", "q", "label"):
            table.add_column(name, overflow="fold")
        for row in best.sort(pl.col("d_av_select").abs(), descending=True).iter_rows(named=True):
            table.add_row(
                Text(row["feature"]),
                Text(row["value"] or "–"),
                _with_interval(row["d_av"], [row["d_lo"], row["d_hi"]]),
                _number(row["q"]),
                Text(labels.get(row["feature"], "–")),
            )
        console.print(table)


def _shares(rows: pl.DataFrame) -> str:
    """`q < 0.05 in 3.1% of tests; sham:a 2.9%, …`: a count says nothing without its nulls."""
    shares = rows.group_by("null").agg((pl.col("q") < 0.05).mean()).sort("null")
    told = {null: f"{share or 0:.1%}" for null, share in shares.iter_rows()}
    nulls = ", ".join(f"{null} {share}" for null, share in told.items() if null)
    return f"q < 0.05 in {told.get('', '0%')} of tests" + (f"; on nulls: {nulls}" if nulls else "")


def _labels(run: Run) -> dict[str, str]:
    frame = run.labels
    if frame.is_empty():
        return {}
    return {row["feature"]: row["label"] or "INCOHERENT" for row in frame.iter_rows(named=True)}


def show_labels(folder: Path, most: int) -> None:
    """What the interpret stage came to: who said what of the first features, and what it took."""
    run, console = load_run(folder), _console()
    manifest = run.manifest("interpret")
    facts = manifest.facts if manifest else {}
    for note in facts.get("notes", []):
        console.print(Text(note, "yellow"))
    for role, usage in facts.get("usage", {}).items():
        console.print(Text(f"{role}: {_usage(usage)}"))
    labels = run.labels
    labeller = facts.get("labeller")
    asked = labels.filter(pl.col("labeller") == labeller) if labels.height else labels
    verdicts = {row["feature"]: row for row in run.verdicts.iter_rows(named=True)}
    table = Table(title=f"labels by {labeller}", title_justify="left")
    for name in ("feature", "label", "verdict", "reason"):
        table.add_column(name, overflow="fold")
    for row in asked.head(most).iter_rows(named=True):
        verdict = verdicts.get(row["feature"], {})
        label = f"failed: {row['failed']}" if row["failed"] else row["label"] or "INCOHERENT"
        said = verdict.get("verdict") or ("failed" if verdict.get("failed") else "–")
        reason = verdict.get("reason") or row["reason"] or ""
        table.add_row(Text(row["feature"]), Text(label), Text(said), Text(reason))
    console.print(table)


def _usage(usage: Mapping[str, Any]) -> str:
    """`40 calls of SmolLM2, 2 failed (…), 31,200 tokens read and 4,100 written, 1.2 calls/s`"""
    reasons = "; ".join(f"{count} × {reason}" for reason, count in usage["reasons"].items())
    told = f"{usage['calls']:,} calls of {usage['model']}, {usage['failed']:,} failed"
    told += f" ({reasons})" if reasons else ""
    told += f", {usage['prompt_tokens']:,} tokens read and {usage['completion_tokens']:,} written"
    if usage["per_second"]:
        told += f", {spoken_rate(usage['per_second'])} calls/s"
    return told + (f", {usage['cost']:.2f} {usage['currency']}" if "cost" in usage else "")


def show_plan(plans: Sequence[StagePlan], costs: Sequence[Cost], free_bytes: int) -> None:
    """The stages, fresh or stale and why; then what the run costs."""
    console = _console()
    table = Table(title="stages", title_justify="left")
    for name in ("stage", "state", "why"):
        table.add_column(name, overflow="fold")
    for plan in plans:
        why = plan.reasons[:4] + ([f"… and {len(plan.reasons) - 4} more"] if len(plan.reasons) > 4 else [])
        why += [f"waits for {plan.waits_for}"] if plan.waits_for else []
        table.add_row(
            plan.stage, Text("fresh", "green") if plan.fresh else Text("to do", "yellow"), Text("\n".join(why))
        )
    console.print(table)
    table = Table(title="what the whole study costs", title_justify="left")
    for name in ("what", "how much", "how it is counted"):
        table.add_column(name, overflow="fold")
    for cost in costs:
        table.add_row(cost.what, cost.amount, cost.basis)
    table.add_row("free disk", f"{free_bytes / 2**30:,.1f} GiB", "where the run folder is")
    console.print(table)


def show_sweep(frame: pl.DataFrame, mse: float) -> None:
    """The variants side by side: means over dictionaries, what was published, then each dictionary."""
    console = _console()
    table = Table(title="variants (means over dictionaries; FVU and MSE on held-out texts)", title_justify="left")
    columns = ("variant", "latents", "k", "AuxK", "FVU", "MSE", "live", "dead", "L0", f"MSE < {mse:g} on controls")
    for name in (*columns, "published"):
        table.add_column(name, overflow="fold")
    for (variant,), rows in frame.group_by("variant", maintain_order=True):
        first = rows.row(0, named=True)
        means = {name: rows[name].mean() for name in ("fvu", "mse", "live_share", "dead", "l0")}
        judged = rows["passes"].drop_nulls()
        table.add_row(
            Text(str(variant)),
            f"{first['n_latents']:,}",
            str(first["k"]),
            _number(first["auxk"]) if first["auxk"] else "off",
            _number(_real(means["fvu"])),
            _number(_real(means["mse"])),
            f"{_real(means['live_share']) or 0:.1%}",
            _number(_real(means["dead"])),
            _number(_real(means["l0"])),
            f"{judged.sum()} of {len(judged)}" if len(judged) else "–",
            _published(first),
        )
    console.print(table)
    if frame["published_passed"].is_not_null().any():
        console.print("published: what the published study says of its own run; it was not measured here")
    console.print(_each_dictionary(frame))


def _each_dictionary(frame: pl.DataFrame) -> Table:
    variants = frame["variant"].unique(maintain_order=True).to_list()
    table = Table(title="FVU on held-out texts, and live share", title_justify="left")
    for name in ("dictionary", *variants):
        table.add_column(Text(name), overflow="fold")
    for (dictionary,), rows in frame.group_by("dictionary", maintain_order=True):
        found = {row["variant"]: f"{_number(row['fvu'])}, {row['live_share']:.0%}" for row in rows.to_dicts()}
        table.add_row(Text(str(dictionary)), *(found.get(variant, "–") for variant in variants))
    return table


def _published(row: Mapping[str, Any]) -> str:
    if row["published_passed"] is None:
        return "–"
    dead = row["published_dead_share"]
    return f"{row['published_passed']} of {row['published_of']}" + (f", {dead:.0%} dead" if dead else "")


def _real(value: Any) -> float | None:
    """What polars says a mean may be → what a mean of numbers is."""
    return None if value is None else float(value)


def show_proof(proof: Mapping[str, Any]) -> None:
    """The top-level numbers of proof.json, and the goals on organisms."""
    console = _console()
    for key, value in proof.items():
        if isinstance(value, str | int | float):
            console.print(Text(f"{key}: {value}"))
    for organism, block in (proof.get("organisms") or {}).items():
        for goal in block.get("goals") or ():
            met = {True: "met", False: "missed", None: "not judged"}[goal["met"]]
            found = f"{goal['found']} of {goal['of']}"
            console.print(Text(f"{organism}, {goal['name']}: {found} (promised {goal['promised']}): {met}"))
