"""The check against what was planted: only an organism has one, and it is the strongest thing that a page can say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from antar.report.answer import truth_sentence
from antar.report.blocks import Badge, Block, Cell, Column, Facts, Figures, Paragraph, Row, Section, Table
from antar.report.figures import COLOURS, Plot, legend_below
from antar.report.sources import at, number, quoted, setting
from antar.report.text import NOT_MEASURED, listing, plain_for_figures
from antar.report.words import Prose, told
from antar.run import Run

_RULES = (
    ("the study's rule", None),
    ("energy alone, no dictionary", "no_dictionary"),
    ("features alone, no energy", "no_energy_gate"),
)
_SCORES = (
    ("precision", "precision"),
    ("recall", "recall"),
    ("flagged_on_null", "flagged on a second sham"),
    ("flagged_same_checkpoint", "flagged with one checkpoint on both sides"),
)


def truth_section(run: Run) -> Section:
    truth = run.truth
    if truth is None:
        text = (
            "Nothing was planted in this pair of models, or it was not scored, so nothing here could be checked "
            "against a known answer. The demo study runs the same code on a pair whose difference is known."
        )
        return Section("truth", "The planted truth", [Paragraph(text)], appendix=True)
    blocks: list[Block] = [Paragraph(truth_sentence(truth), "answer"), _rules(truth)]
    energies = truth.get("energies") or {}
    if energies.get("chat"):
        blocks += [Figures([_plot(truth)]), _concepts(truth)]
    settings: list[tuple[Prose, Prose]] = [
        (key.replace("_", " "), (number if key == "energy" else setting)(value, at(_FILE, "thresholds", key)))
        for key, value in (truth.get("thresholds") or {}).items()
        if key != "energy_of"  # concept by concept: in the table
    ]
    rule = quoted(truth["rule"], at(_FILE, "rule")) if truth.get("rule") else NOT_MEASURED
    blocks += [Paragraph(told("The rule: {}. Its thresholds:", rule)), Facts(settings)]
    return Section("truth", "The planted truth", blocks, appendix=True)


_FILE = "truth_report.json"


def _rules(truth: Mapping[str, Any]) -> Table:
    rows: list[Row] = []
    for title, key in _RULES:
        scores = truth if key is None else truth.get(key)
        if scores:
            rows.append(Row(title, [_score(scores, name, key) for name, _ in _SCORES], null=key is not None))
    return Table(
        "The rule and its thresholds were fixed in the study file before the run. Shaded: simpler rules on the "
        "same data.",
        [Column("rule", False), *(Column(title) for _, title in _SCORES)],
        rows,
        "Precision: share of the flagged concepts that were changed. Recall: share of the changed concepts that are "
        "flagged. On a sham 0 is wanted; with one checkpoint on both sides 0 holds by construction.",
    )


def _score(scores: Mapping[str, Any], name: str, key: str | None) -> Prose:
    if name == "precision" and scores.get("flagged") == []:
        return "nothing flagged"
    return number(scores.get(name), at(_FILE, *([key] if key else []), name))


def _concepts(truth: Mapping[str, Any]) -> Table:
    energies, features = truth["energies"], truth.get("features") or {}
    chat: Mapping[str, float] = energies["chat"]
    listed: set[str] = set(truth.get("listed") or ())
    flagged: set[str] = set(truth.get("flagged") or ())
    threshold = (truth.get("thresholds") or {}).get("energy")
    gates: Mapping[str, float] = (truth.get("thresholds") or {}).get("energy_of") or {}
    rows: list[Row] = []
    for name in sorted(chat, key=lambda name: (-chat[name], name)):
        gate = ("energy_of", name) if name in gates else ("energy",)
        cells: list[Cell] = [
            number(chat[name], at(_FILE, "energies", "chat", name)),
            number(gates.get(name, threshold), at(_FILE, "thresholds", *gate)),
        ]
        cells += [
            number((energies.get(side) or {}).get(name), at(_FILE, "energies", side, name))
            for side in ("threshold_sham", "null")
        ]
        cells += [
            "changed" if name in listed else "left alone",
            _outcome(name in listed, name in flagged),
            listing(features.get(name, [])[:3]) if features.get(name) else "",
        ]
        rows.append(Row(name, cells))
    columns = [
        Column("concept", False),
        Column("energy"),
        Column("threshold"),
        Column("on the first sham"),
        Column("on the second sham"),
        Column("truth", False),
        Column("outcome", False),
        Column("its features", False),
    ]
    return Table(
        "Concepts by the energy of their shift, as a share of the activation norm.",
        columns,
        rows,
        told(
            "Threshold on the energy: {}, set by the first sham, and more for a concept that drifts "
            "further than that on the sham itself; the second sham measures it.",
            number(threshold, at(_FILE, "thresholds", "energy")),
        ),
    )


def _outcome(listed: bool, flagged: bool) -> Badge:
    if listed:
        return Badge("found", "good") if flagged else Badge("missed", "bad")
    return Badge("false alarm", "bad") if flagged else Badge("rightly left", "none")


def _plot(truth: Mapping[str, Any]) -> Plot:
    energies = truth["energies"]
    chat: Mapping[str, float] = energies["chat"]
    sham: Mapping[str, float] = energies.get("null") or energies.get("threshold_sham") or {}
    listed: Sequence[str] = truth.get("listed") or ()
    threshold = (truth.get("thresholds") or {}).get("energy")
    names = sorted(chat, key=lambda name: (chat[name], name))

    def draw(axes: Axes) -> None:
        for place, name in enumerate(names):
            axes.plot([sham.get(name, 0), chat[name]], [place, place], color=COLOURS["grid"], linewidth=1)
        places = {name: place for place, name in enumerate(names)}
        if sham:
            axes.plot(
                [sham.get(n, 0) for n in names],
                range(len(names)),
                "s",
                color=COLOURS["sham"],
                markersize=3.5,
                linestyle="none",
                label="second sham" if energies.get("null") else "sham",
            )
        for name_of, wanted, marker in (("changed", True, "o"), ("left alone", False, "D")):
            these = [name for name in names if (name in listed) == wanted]
            colour = COLOURS["real"] if wanted else COLOURS["shuffled"]
            axes.plot(
                [chat[n] for n in these],
                [places[n] for n in these],
                marker,
                color=colour,
                markersize=4,
                linestyle="none",
                label=name_of,
            )
        if threshold is not None:
            axes.axvline(threshold, color=COLOURS["ink"], linewidth=0.8, linestyle=":", label="threshold")
        axes.set_yticks(range(len(names)), [plain_for_figures(n, f"concept {i + 1}") for i, n in enumerate(names)])
        axes.set_xlim(left=0)
        axes.set_xlabel("energy of the shift / activation norm")
        legend_below(axes)

    return Plot(
        "truth-energy",
        "Energy of the shift of each concept beside the sham's and the threshold; the table below has the numbers.",
        "Energy of each concept's shift beside the same concept on a sham.",
        draw,
        height=max(2.2, 0.9 + 0.19 * len(names)),
    )
