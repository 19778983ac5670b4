"""How good the dictionaries are, beside PCA and random directions, and how they were trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from antar.core.origin import FOLDER_KEY, READ_ON_KEY, origin_of
from antar.core.sites import DictionaryId
from antar.report.blocks import Badge, Block, Cell, Column, Figures, Paragraph, Row, Section, Table
from antar.report.counterparts import counterparts_blocks
from antar.report.figures import COLOURS, Plot, legend_below
from antar.report.sources import at, number, percent, setting
from antar.report.words import Cited, Prose, told
from antar.run import Run

_DASHES = ("-", "--", ":", "-.")


def dictionaries_section(run: Run) -> Section:
    title = "The dictionaries"
    ids = run.dictionary_ids if run.has("dictionaries") else []
    own = [one for one in ids if not one.is_replica]
    if not own:
        return Section(
            "dictionaries", title, [Paragraph("No dictionary has been trained in this run.")], appendix=True
        )
    metrics = {one: run.metrics(one) for one in own if run.has(f"dictionaries/{one.folder}/metrics.json")}
    replicas = len(ids) - len(own)
    blocks: list[Block] = [
        Paragraph(
            "Sparse dictionaries, each on one site"
            + ("; their replicas with another seed or fold serve stability only" if replicas else "")
            + ". MSE is in raw activation units, as published, and falls with the size of the activations; the "
            "fraction of variance unexplained (FVU) does not. The nulls of FVU are PCA with as many components "
            "as a text has latents, and random directions and raw neurons with the same k."
        ),
        *(Paragraph(_imported(metrics, one), "note") for one in own if one.is_imported),
        _quality(metrics, own),
        _published(metrics, own, run),
        *_crosscoders(metrics, own),
        *counterparts_blocks(run),
    ]
    histories = {one: run.history(one) for one in own if run.has(f"dictionaries/{one.folder}/history.parquet")}
    plots = _curves({one: frame for one, frame in histories.items() if frame.height})
    if plots:
        blocks.append(Figures(plots))
    return Section("dictionaries", title, blocks, appendix=True)


def _head(one: DictionaryId) -> str:
    return f"{one} (imported)" if one.is_imported else str(one)


def _imported(metrics: Mapping[DictionaryId, Mapping[str, Any]], one: DictionaryId) -> Prose:
    """Where a dictionary that others trained came from, and on what it was trained, in its source's words."""
    origin = origin_of(metrics.get(one, {}).get("imported") or {})

    def said(text: str, *path: str) -> Cited:
        return Cited(text, at(_file(one), "imported", *path))

    folder = said(origin.folder, FOLDER_KEY) if origin.folder else "a folder"
    model = said(origin.model, "metadata", "model_name") if origin.model else "not named"
    hook = said(origin.hook, "metadata", "hook_name") if origin.hook else "not named"
    words = told(
        "{}: imported from {} (source model {}, hook {}). The study's recipe is not its own.",
        str(one), folder, model, hook,
    )  # fmt: skip
    if origin.read_on is None:
        return words
    return words + told(" It was trained on {} and is read here on {}.", model, said(origin.read_on, READ_ON_KEY))


def _file(one: DictionaryId) -> str:
    return f"dictionaries/{one.folder}/metrics.json"


def _cited(metrics: Mapping[DictionaryId, Mapping[str, Any]], one: DictionaryId, *path: str) -> Cited:
    """The number at `path` of a dictionary's metrics.json."""
    value: Any = metrics.get(one, {})
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return number(value, at(_file(one), *path))


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
        part = ("parts", "heldout_cultural")
        cells: list[Cell] = [
            _cited(metrics, one, *part, name) for name in ("mse", "fvu", "fvu_pca", "fvu_random", "fvu_neurons")
        ]
        cells += [
            _cited(metrics, one, "parts", "heldout_control", "fvu"),
            _cited(metrics, one, *part, "l0"),
            _live(metrics, one),
        ]
        rows.append(Row(_head(one), cells, null=_is_null(one)))
    return Table(
        "On held-out cultural texts",
        [Column(title, i > 0) for i, title in enumerate(columns)],
        rows,
        "L0: latents that fire on a text. Live: latents that fire on some training text. Shaded rows: a sham's "
        "delta, a baseline.",
    )


def _live(metrics: Mapping[DictionaryId, Mapping[str, Any]], one: DictionaryId) -> Prose:
    share = _part(metrics, one, "train").get("live_share")
    return percent(share, at(_file(one), "parts", "train", "live_share"), 0)


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
        control = ("parts", "heldout_control")
        cells: list[Cell] = [
            _cited(metrics, one, *control, "mse"),
            _met(mse is not None, mse is not None and mse < limit),
        ]
        bounded = metrics.get(one, {}).get("kind", "topk") not in ("batchtopk", "crosscoder")  # theirs is an average
        by_construction = bool(bounded and width and k and width / k > ratio)
        ratio_at = f"{at(_file(one), 'n_latents')} / {at(_file(one), *control, 'l0')}"
        cells += [
            number(sparsity, ratio_at),
            Badge("by construction", "mild")
            if by_construction
            else _met(sparsity is not None, sparsity is not None and sparsity > ratio),
        ]
        rows.append(Row(_head(one), cells, null=_is_null(one)))
    columns = [
        Column("dictionary", False),
        Column("MSE on controls"),
        Column(told("MSE < {}", setting(limit, at("study.yaml", "criteria", "mse"))), False),
        Column("latents / L0"),
        Column(told("sparsity > {}×", setting(ratio, at("study.yaml", "criteria", "sparsity"))), False),
    ]
    return Table(
        "The published criteria, on the controls as published",
        columns,
        rows,
        "Both are easy: the seven criteria say what stands against them.",
    )


def _is_null(one: DictionaryId) -> bool:
    return one.is_null


def _crosscoders(metrics: Mapping[DictionaryId, Mapping[str, Any]], own: Sequence[DictionaryId]) -> list[Table]:
    """What the crosscoders say is on one side only, and how much of that latent scaling confirms."""
    rows: list[Row] = []
    for one in own:
        scaling = metrics.get(one, {}).get("latent_scaling")
        if scaling is None:
            continue
        cells: list[Cell] = [
            _cited(metrics, one, "parts", "heldout", "sides", side, "fvu") for side in ("base", "chat")
        ]
        cells.append(_cited(metrics, one, "latent_scaling", "live"))
        cells += [
            told(
                "{} of {}",
                *(_cited(metrics, one, "latent_scaling", f"{side}_only{end}") for end in ("_confirmed", "")),
            )
            for side in ("base", "chat")
        ]
        cells += [_cited(metrics, one, "latent_scaling", name) for name in ("median_nu_eps", "null_beta_95")]
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
            axes.plot(
                frame["epoch"].to_list(),
                frame["val_fvu"].to_list(),
                color=colour,
                linestyle=_DASHES[layers.index(one.layer) % len(_DASHES)],
                linewidth=0.9 if null else 1.4,
                label=label,
            )
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(y=0.12)
        axes.set_ylim(bottom=0)
        axes.set_title(f"{side}: validation FVU")
        axes.grid(axis="y")
        legend_below(axes, 3, fontsize=7)

    name = "training-" + "".join(character for character in side if character.isalnum())
    caption = f"Training curves on {side}: fraction of variance unexplained on the validation split."
    return Plot(
        name, f"Validation FVU by epoch for the dictionaries of {side}, one line for each layer.", caption, draw
    )
