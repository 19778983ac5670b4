"""The dictionaries of a run: how well each does on each part of the texts, how it was trained, how often it fires."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from antar.core.sites import DictionaryId
from antar.run import Run
from antar.web.explore.draw import Drawing
from antar.web.explore.figures import bars, curves, dot_rows
from antar.web.explore.index import Opened
from antar.web.shell import Shell

FIGURES = {
    "loss": "Loss in training",
    "live": "Latents that fire",
    "density": "How often latents fire",
    "fvu": "Variance unexplained",
}
KINDS = {"this": "fvu", "PCA": "fvu_pca", "random": "fvu_random", "neurons": "fvu_neurons"}
ROLES = {"this": ("real", False), "PCA": ("sham", True), "random": ("shuffled", True), "neurons": ("chat", True)}
PARTS_FIRST = ("train", "val", "heldout", "heldout_cultural", "heldout_control")


def page(shell: Shell, request: Request, opened: Opened) -> Response:
    run = opened.run
    ids = run.dictionary_ids if run.has("dictionaries") else []
    own = [one for one in ids if not one.is_replica]
    rows = [(str(one), one.is_null, metrics_of(run, one)) for one in own]
    replicas = sum(one.is_replica for one in ids)
    return shell.page(request, "dictionaries.html.j2", rows=rows, replicas=replicas)


def one_page(shell: Shell, request: Request, opened: Opened) -> Response:
    one = find(opened.run, request.path_params["name"])
    if one is None:
        name = request.path_params["name"][:100]
        return shell.told(request, "Not here", f"This run has no dictionary called {name}.", 404)
    metrics = metrics_of(opened.run, one)
    drawn = [(name, title, figure(opened.run, one, name)) for name, title in FIGURES.items()]
    return shell.page(
        request,
        "dictionary.html.j2",
        name=str(one),
        site=f"{one.trained_on} {one.kind or ''}".strip(),
        layer=one.layer,
        is_null=one.is_null,
        metrics=metrics,
        parts=parts_of(metrics),
        figures=[(name, title, drawing) for name, title, drawing in drawn if drawing is not None],
        replicas=[str(other) for other in opened.run.dictionary_ids if other.is_replica and other.of == one.of],
        features=opened.index.frame["dictionary"].eq(str(one)).sum(),
    )


def find(run: Run, name: str) -> DictionaryId | None:
    ids = run.dictionary_ids if run.has("dictionaries") else []
    return next((one for one in ids if str(one) == name), None)


def metrics_of(run: Run, one: DictionaryId) -> Mapping[str, Any]:
    return run.metrics(one) if run.has(f"dictionaries/{one.folder}/metrics.json") else {}


def parts_of(metrics: Mapping[str, Any]) -> Sequence[tuple[str, Mapping[str, Any]]]:
    """(name in words, numbers) of each part of the texts, the usual ones first."""
    parts: Mapping[str, Any] = metrics.get("parts") or {}
    order = [name for name in PARTS_FIRST if name in parts] + sorted(set(parts) - set(PARTS_FIRST))
    return [(name.replace("_", " ").replace("heldout", "held-out"), parts[name]) for name in order]


def figure(run: Run, one: DictionaryId, name: str) -> Drawing | None:
    """A figure by its name; None where there is nothing to draw."""
    if name in ("loss", "live"):
        return _history(run, one, name)
    if name == "density":
        return _density(metrics_of(run, one))
    return _fvu(metrics_of(run, one)) if name == "fvu" else None


def _history(run: Run, one: DictionaryId, name: str) -> Drawing | None:
    if not run.has(f"dictionaries/{one.folder}/history.parquet"):
        return None
    frame = run.history(one)
    wanted = {
        "loss": {"train_mse": ("training", "base", ""), "val_mse": ("validation", "real", "5 3")},
        "live": {"live_share": ("live share", "base", "")},
    }[name]
    lines = {
        title: (role, dash, [(float(x), float(y)) for x, y in frame.select("epoch", column).drop_nulls().iter_rows()])
        for column, (title, role, dash) in wanted.items()
        if column in frame.columns
    }
    if not any(points for _, _, points in lines.values()):
        return None
    title = f"{FIGURES[name]}, {one}"
    return curves(
        lines, "epoch; MSE, log scale" if name == "loss" else "epoch", title, log=name == "loss", share=name == "live"
    )


def _density(metrics: Mapping[str, Any]) -> Drawing | None:
    part = (metrics.get("parts") or {}).get("train") or {}
    density = part.get("density")
    if not density:
        return None
    whole = [float(edge).is_integer() for edge in density["log10_edges"][:-1]]
    whole[0] = False  # its name would lie on that of `never`
    labels = ["never", *(f"{100 * 10**edge:g}%" if named else "" for edge, named in
                         zip(density["log10_edges"][:-1], whole, strict=True))]  # fmt: skip
    heights = [float(density.get("never") or 0), *map(float, density["counts"])]
    return bars(heights, labels, "share of training texts that fire a latent", FIGURES["density"])


def _fvu(metrics: Mapping[str, Any]) -> Drawing | None:
    """FVU of each part beside that of PCA, random directions and raw neurons with the same k."""
    parts = [(name, part) for name, part in parts_of(metrics) if part.get("fvu") is not None]
    if not parts:
        return None
    rows = [
        (name, {kind: float(part[key]) for kind, key in KINDS.items() if part.get(key) is not None})
        for name, part in parts
    ]
    return dot_rows(rows, ROLES, "share of variance left unexplained", FIGURES["fvu"])
