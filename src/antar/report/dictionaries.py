"""How good the dictionaries are, beside PCA and random directions, and how they were trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from antar.core.sites import DictionaryId
from antar.report.blocks import Badge, Block, Cell, Column, Figures, Paragraph, Row, Section, Table
from antar.report.counterparts import counterparts_blocks
from antar.report.figures import COLOURS, Plot, legend_below
from antar.report.text import number, percent, plural
from antar.run import Run

_DASHES = ("-", "--", ":", "-.")


def dictionaries_section(run: Run) -> Section:
    title = "The dictionaries"
    ids = run.dictionary_ids if run.has("dictionaries") else []
    own = [one for one in ids if not one.is_replica]
    if not own:
        return Section("dictionaries", title, [Paragraph("No dictionary has been trained in this run.")])
    metrics = {one: run.metrics(one) for one in own if run.has(f"dictionaries/{one.folder}/metrics.json")}
    replicas = len(ids) - len(own)
    blocks: list[Block] = [
        Paragraph(
            f"{plural(len(own), 'sparse dictionary', 'sparse dictionaries')}, each on one site"
            + (f"; {plural(replicas, 'replica')} with another seed or fold serve stability only" if replicas else "")
            + ". MSE is in raw activation units, as published, and falls with the size of the activations; the "
            "fraction of variance unexplained (FVU) does not. The nulls of FVU are PCA with as many components "
            "as a text has latents, and random directions and raw neurons with the same k."
        ),
        _quality(metrics, own),
        _published(metrics, own, run),
        *_crosscoders(metrics, own),
        *counterparts_blocks(run),
    ]
    histories = {one: run.history(one) for one in own if run.has(f"dictionaries/{one.folder}/history.parquet")}
    plots = _curves({one: frame for one, frame in histories.items() if frame.height})
    if plots:
        blocks.append(Figures(plots))
    return Section("dictionaries", title, blocks)


def _part(metrics: Mapping[DictionaryId, Mapping[str, Any]], one: DictionaryId, name: str) -> Mapping[str, Any]:
    return metrics.get(one, {}).get("parts", {}).get(name, {})


def _quality(metrics: Mapping[DictionaryId, Mapping[str, Any]], own: Sequence[DictionaryId]) -> Table:
    columns = (
        "dictionary",
        "MSE",
        "FVU",
        "FVU of PCA",
        "FVU of random",
        "FVU of neurons",
        "FVU on controls",
        "L0",
        "live",
    )
    rows: list[Row] = []
    for one in own:
        part, control = _part(metrics, one, "heldout_cultural"), _part(metrics, one, "heldout_control")
        cells = [number(part.get(name)) for name in ("mse", "fvu", "fvu_pca", "fvu_random", "fvu_neurons")]
        cells += [number(control.get("fvu")), number(part.get("l0")), _live(metrics, one)]
        rows.append(Row(str(one), cells, null=_is_null(one)))
    return Table(
        "On held-out cultural texts", [Column(title, i > 0) for i, title in enumerate(columns)], rows,
        "L0: latents that fire on a text. Live: latents that fire on some training text. Shaded rows: a sham's "
        "delta, a baseline."
    )  # fmt: skip


def _live(metrics: Mapping[DictionaryId, Mapping[str, Any]], one: DictionaryId) -> str:
    return percent(_part(metrics, one, "train").get("live_share"), 0)


def _published(metrics: Mapping[DictionaryId, Mapping[str, Any]], own: Sequence[DictionaryId], run: Run) -> Table:
    study = run.study.get("criteria")
    settings = study if isinstance(study, Mapping) else {}
    limit, ratio = settings.get("mse", 0.05), settings.get("sparsity", 10)
    rows: list[Row] = []
    for one in own:
        mse = _part(metrics, one, "heldout_control").get("mse")
        l0 = _part(metrics, one, "heldout_control").get("l0")
        width, k = metrics.get(one, {}).get("n_latents"), metrics.get(one, {}).get("k")
        sparsity = width / l0 if width and l0 else None
        cells: list[Cell] = [number(mse), _met(mse is not None, mse is not None and mse < limit)]
        bounded = metrics.get(one, {}).get("kind", "topk") not in ("batchtopk", "crosscoder")  # theirs is an average
        by_construction = bool(bounded and width and k and width / k > ratio)
        cells += [number(sparsity), Badge("by construction", "mild") if by_construction else
                  _met(sparsity is not None, sparsity is not None and sparsity > ratio)]  # fmt: skip
        rows.append(Row(str(one), cells, null=_is_null(one)))
    columns = [
        Column("dictionary", False),
        Column("MSE on controls"),
        Column(f"MSE < {limit:g}", False),
        Column("latents / L0"),
        Column(f"sparsity > {ratio:g}×", False),
    ]
    return Table("The published criteria, on the controls as published", columns, rows,
                 "Both are easy: see criteria 1 and 2 for what stands against them.")  # fmt: skip


def _is_null(one: DictionaryId) -> bool:
    return one.is_null


def _crosscoders(metrics: Mapping[DictionaryId, Mapping[str, Any]], own: Sequence[DictionaryId]) -> list[Table]:
    """What the crosscoders say is on one side only, and how much of that latent scaling confirms."""
    rows: list[Row] = []
    for one in own:
        scaling, sides = metrics.get(one, {}).get("latent_scaling"), _part(metrics, one, "heldout").get("sides", {})
        if scaling is None:
            continue
        cells: list[Cell] = [number(sides.get(side, {}).get("fvu")) for side in ("base", "chat")]
        cells += [number(scaling.get("live"))]
        cells += [
            f"{number(scaling.get(f'{side}_only_confirmed'))} of {number(scaling.get(f'{side}_only'))}"
            for side in ("base", "chat")
        ]
        cells += [number(scaling.get("median_nu_eps")), number(scaling.get("null_beta_95"))]
        rows.append(Row(str(one), cells))
    columns = (
        "crosscoder",
        "FVU on base",
        "FVU on chat",
        "live",
        "base only",
        "chat only",
        "median ν",
        "null: 95% of |β|",
    )
    note = (
        "Base or chat only: latents whose decoder is on one side by its length, and how many of them latent scaling "
        "finds absent from the other (ν of the error and of the reconstruction both below 0.5). ν near 1: as much on "
        "base as on chat. The null is random directions of the same length."
    )
    if not rows:
        return []
    return [Table("What is on one side only", [Column(title, i > 0) for i, title in enumerate(columns)], rows, note)]


def _met(measured: bool, met: bool) -> Badge:
    return Badge("not measured", "none") if not measured else Badge("met", "good") if met else Badge("not met", "bad")


def _curves(histories: Mapping[DictionaryId, pl.DataFrame]) -> list[Plot]:
    groups: dict[str, list[DictionaryId]] = {}
    for one in histories:
        groups.setdefault(one.trained_on.split(":")[0], []).append(one)
    return [_curve(side, ids, histories) for side, ids in groups.items()]


def _curve(side: str, ids: Sequence[DictionaryId], histories: Mapping[DictionaryId, pl.DataFrame]) -> Plot:
    layers = sorted({one.layer for one in ids})

    def draw(axes: Axes) -> None:
        for one in ids:
            frame = histories[one].drop_nulls("val_fvu")
            null = _is_null(one)
            colour = COLOURS["sham"] if null else COLOURS.get(side, COLOURS["ink"])
            label = f"layer {one.layer}" + (f", {one.kind}" if one.kind else "")
            label += f", sham {one.trained_on.split(':')[1]}" if ":" in one.trained_on else ""
            axes.plot(frame["epoch"].to_list(), frame["val_fvu"].to_list(), color=colour,
                      linestyle=_DASHES[layers.index(one.layer) % len(_DASHES)], linewidth=0.9 if null else 1.4,
                      label=label)  # fmt: skip
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(y=0.12)
        axes.set_ylim(bottom=0)
        axes.set_title(f"{side}: validation FVU")
        axes.grid(axis="y")
        legend_below(axes, 3, fontsize=7)

    last = ", ".join(f"{one}: {_last(histories[one])}" for one in ids)
    name = "training-" + "".join(character for character in side if character.isalnum())
    caption = f"Training curves on {side}: fraction of variance unexplained on the validation split."
    return Plot(name, f"Validation FVU by epoch for {side}. Last values: {last}.", caption, draw)


def _last(frame: pl.DataFrame) -> str:
    values = frame["val_fvu"].drop_nulls()
    return number(values[-1]) if len(values) else number(None)
