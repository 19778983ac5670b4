"""How far each sham that antar made has drifted, beside the chat model (`antar.organisms.sham` makes them)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from antar.report.blocks import Block, Column, Paragraph, Row, Table
from antar.report.text import fixed, listing, number, plural
from antar.run import Run


def drift_line(sham: Mapping[str, Any]) -> str:
    """`Sham a drifts 0.98, 1.03 and 1.01 times as far as chat at layers 6, 12 and 18.`

    The ratios are those on control texts that did not set the match.
    """
    ratios = listing([fixed(one["ratio_elsewhere"]) for one in sham["layers"]])
    layers = [one["layer"] for one in sham["layers"]]
    where = f"layer {layers[0]}" if len(layers) == 1 else f"layers {listing(layers)}"
    return f"Sham {sham['sham']} drifts {ratios} times as far as chat at {where}."


def drift_blocks(run: Run) -> list[Block]:
    """The lines and the table; nothing for a run without made shams."""
    shams = run.made_shams
    if not shams:
        return []
    lines = " ".join(drift_line(sham) for sham in shams)
    return [
        Paragraph(f"{lines} Drift is matched on control texts, so that what is left to differ is culture."),
        _table(shams),
    ]


def _table(shams: list[dict[str, Any]]) -> Table:
    columns = [Column("sham and layer", False), Column("chat's drift"), Column("the sham's"), Column("ratio"),
               Column("on other controls"), Column("by language", False), Column("share of base's norm"),
               Column("factor"), Column("from shallower layers"), Column("steps")]  # fmt: skip
    rows: list[Row] = []
    for sham in shams:
        for one in sham["layers"]:
            languages = ", ".join(f"{name} {fixed(ratio)}" for name, ratio in one["ratio_by_language"].items())
            cells = [
                *(number(one[key]) for key in ("target", "reached")),
                *(fixed(one[key]) for key in ("ratio", "ratio_elsewhere")),
                languages,
                number(one["target_relative"]),
                fixed(one["factor"]),
                number(one["propagated"]),
                number(sham["steps"]),
            ]
            rows.append(Row(f"{sham['sham']}, layer {one['layer']}", cells, null=True))
    return Table(
        "Drift of the shams from base, beside chat's", columns, rows,
        "Drift: root mean square over held-out control texts of how far a text's vector lies from base's, in "
        "activation units. A sham's change of weights is scaled by the factor, block group by block group, until its "
        "drift equals chat's; at factor 0 the drift comes from shallower layers alone.",
    )  # fmt: skip


def drift_limits(run: Run) -> list[str]:
    """One line for each made sham that drifts otherwise than chat at some layer, and one where languages differ."""
    found: list[str] = []
    for sham in run.made_shams:
        found += _uneven(sham)
        unequal = [one for one in sham["layers"] if not one["equal"]]
        if not unequal:
            continue
        told = "; ".join(_otherwise(one, sham["steps"]) for one in unequal)
        found.append(f"Sham {sham['sham']} did not come to drift exactly as far as chat: {told}.")
    return found


def _otherwise(one: Mapping[str, Any], steps: int) -> str:
    """How far the sham drifts at one layer, why it is not as far as chat, and what that makes of the null there."""
    if one["factor"] == 0:
        why = "what shallower layers bring along is more already"
    else:
        why = f"it was trained for {plural(steps, 'step')}"
    kind = "harder" if one["ratio"] > 1 else "weaker"
    return (
        f"{fixed(one['ratio'])} times at layer {one['layer']} ({why}), a {kind} null there than equal drift would be"
    )


def _uneven(sham: Mapping[str, Any]) -> list[str]:
    beyond, by_language = sham["uneven_beyond"], dict[str, list[float]]()
    for one in sham["layers"]:
        for language, ratio in one["ratio_by_language"].items():
            by_language.setdefault(language, []).append(ratio)
    told = [
        f"{language} {listing([fixed(ratio) for ratio in ratios])}"
        for language, ratios in by_language.items()
        if not all(1 / beyond <= ratio <= beyond for ratio in ratios)
    ]
    if not told:
        return []
    return [
        f"Sham {sham['sham']} drifts as far as chat over all languages together, and not in each ({'; '.join(told)} "
        "times, layer by layer). Within a language it is a weak null where it drifts less, and a hard one where more."
    ]
