"""The card of what is shared: data, recipe, the criteria each beside its null, and the limits.

Every word of it that comes from a run is data: it is escaped, so that no label, question or source can be markup. The
front matter has the keys that the hub knows.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl
import yaml

from antar import __version__
from antar.core.sites import DictionaryId
from antar.run import Run
from antar.share.checkpoints import checkpoint_of, hook_of, sides_of, takes
from antar.share.cleaning import without_paths
from antar.share.imported import imported_ids, imported_words, source_model

TAGS = ["antar", "sparse-autoencoder", "mechanistic-interpretability", "model-diffing"]
_MARKUP = re.compile(r"([\\`*_{}\[\]#|~$])")
_LANGUAGE = re.compile(r"[a-z]{2,3}")
RECIPE = ("preset", "n_latents", "k", "kinds", "sides", "optimiser", "lr", "batch", "max_epochs", "auxk_coefficient",
          "dead_rule", "train_on", "seeds", "folds")  # fmt: skip


def escaped(value: Any) -> str:
    """`value` as one line of Markdown that is read as it stands."""
    flat = " ".join(str(without_paths(str(value))).split())
    return html.escape(_MARKUP.sub(r"\\\1", flat), quote=False)


def run_card(run: Run, texts: bool, license: str | None) -> str:
    """The card of a whole run."""
    return "\n\n".join([
        _front(run, license), f"# {escaped(run.study['study'])}",
        _question(run),
        "A run of antar: sparse dictionaries trained on the activations of two checkpoints of one language model, "
        "their features, what changed between the two, and what that is about.",
        _models(run), _data(run, texts), _recipe(run), *_imported(run), *_licence_of(run, license), _criteria(run),
        _limits(run, texts),
        '## Use\n\n```\nantar pull OWNER/NAME@COMMIT --to runs/pulled\nantar show runs/pulled\n```\n\n```python\n'
        'import antar\nrun = antar.load_run("runs/pulled")\nrun.features, run.contrasts, run.criteria\n```',
        _origin(run),
    ]) + "\n"  # fmt: skip


def dictionary_card(run: Run, one: DictionaryId, texts: bool, saelens: bool, license: str | None) -> str:
    """The card of one dictionary."""
    metrics, origin = run.metrics(one), run.origin(one)
    held = metrics["parts"].get("heldout", {})
    facts = [
        ("encodes", f"{takes(one)}, the output of block {one.layer} (counted from 0)"),
        (
            "hook",
            hook_of(run, one)
            or ("none: it belongs to no single model" if origin is None else "its source names none"),
        ),
        ("kind", run.dictionary(one).kind),
        ("width, latents, k", f"{metrics['d_model']}, {metrics['n_latents']}, {metrics['k']}"),
        ("held-out FVU", _beside(held.get("fvu"), "PCA at the same k", held.get("fvu_pca"))),
        ("", _beside(held.get("fvu"), "random directions at the same k", held.get("fvu_random"))),
        ("held-out MSE, raw scale", _number(held.get("mse"))),
        ("L0, live share", f"{_number(held.get('l0'))}, {_number(held.get('live_share'))}"),
    ]
    use = ('## Use\n\n```\nantar pull OWNER/NAME@COMMIT --to mine\n```\n\n```python\nfrom pathlib import Path\n'
           "from antar.dictionaries import load_dictionary\n"
           'codes = load_dictionary(Path("mine")).encode(raw_activations)  # float32 [n, width]\n```')  # fmt: skip
    if saelens:
        use += ('\n\nSAELens opens `saelens/`: `SAE.load_from_disk("mine/saelens")`. It takes raw activations; its '
                "metadata say of what.")  # fmt: skip
    ours = origin is None
    front = _front(run, license, sides_of(one)) if ours else _front(run, license, (), base_model=source_model(origin))
    said = (f"A dictionary of antar's study {escaped(run.study['study'])}." if ours
            else escaped(imported_words(run, one, origin)))  # fmt: skip
    recipe = [_recipe(run)] if ours else _licence_of(run, license, [one])
    return "\n\n".join([
        front, f"# {escaped(one)}", said, _question(run),
        _table(("", ""), [(name, value) for name, value in facts]),
        _models(run, sides_of(one), "Models" if ours else "Read here on"), _data(run, texts), *recipe,
        _criteria(run), _limits(run, texts, one), use,
        _origin(run),
    ]) + "\n"  # fmt: skip


def dataset_card(run: Run, configs: Sequence[Mapping[str, Any]], texts: bool, license: str | None = None) -> str:
    """The card of the tables as a dataset."""
    rows = [(config["config_name"], ", ".join(one["split"] for one in config["data_files"])) for config in configs]
    return "\n\n".join([
        _front(run, license, (), {"configs": list(configs)}), f"# {escaped(run.study['study'])}: texts and tables",
        _question(run), _table(("configuration", "splits"), rows), _models(run), _data(run, texts), _criteria(run),
        _limits(run, texts),
        "## Use\n\n```python\nfrom datasets import load_dataset\n"
        f'load_dataset("OWNER/NAME", "{configs[0]["config_name"]}", revision="COMMIT")\n```',
        _origin(run),
    ]) + "\n"  # fmt: skip


def _front(
    run: Run,
    license: str | None,
    sides: Iterable[str] = ("base", "chat"),
    more: Mapping[str, Any] | None = None,
    base_model: str | None = None,
) -> str:
    front: dict[str, Any] = {"license": license or "other"}
    if license is None:
        front |= {"license_name": "not-stated"}
    languages = [one for one in _languages(run) if _LANGUAGE.fullmatch(one)]
    front |= {"language": languages} if languages else {}
    if more is None:
        front |= {"library_name": "antar"}
        hubs = (
            [base_model]
            if base_model
            else [one.hub for one in (checkpoint_of(run, side) for side in sides) if one.hub]
        )
        front |= {"base_model": hubs} if hubs else {}
    front |= {"tags": TAGS, **(more or {})}
    return f"---\n{yaml.safe_dump(front, allow_unicode=True, sort_keys=False)}---"


def _languages(run: Run) -> list[str]:
    counts = _counts(run)
    return sorted({str(row["language"]) for row in counts})


def _counts(run: Run) -> list[dict[str, Any]]:
    manifest = run.manifest("corpus")
    if manifest and "counts" in manifest.facts:
        return list(manifest.facts["counts"])
    if not run.has("corpus/texts.parquet"):
        return []
    keys = ("group", "language", "source", "split")
    return run.texts.group_by(*keys).agg(pl.len().alias("texts")).sort(*keys).to_dicts()


def _question(run: Run) -> str:
    question = run.study.get("question")
    return f"Its question: *{escaped(question)}*" if question else "It states no question."


def _models(run: Run, sides: Iterable[str] = ("base", "chat"), title: str = "Models") -> str:
    rows: list[tuple[str, str, str]] = []
    for side in sides:
        one = checkpoint_of(run, side)
        where = f"{one.hub} at {one.revision or 'a revision that was not recorded'}" if one.hub else "not on the hub"
        rows.append((side, one.name, where))
    return f"## {title}\n\n" + _table(("side", "checkpoint", "where"), rows)


def _data(run: Run, texts: bool) -> str:
    totals: dict[tuple[str, str, str], int] = {}
    for row in _counts(run):
        key = (str(row["group"]), str(row["language"]), str(row["source"]))
        totals[key] = totals.get(key, 0) + int(row["texts"])
    table = _table(("group", "language", "source", "texts"), [(*key, f"{n:,}") for key, n in sorted(totals.items())])
    said = ("The texts are here, under their sources' licences, which may differ from this repository's." if texts
            else "The texts are not here: they may be under other licences. Neither are the examples.")  # fmt: skip
    return f"## Data\n\n{table}\n\n{said} Splits are by document; contrasts use held-out texts."


def _recipe(run: Run) -> str:
    cfg, extract = run.study["dictionaries"], run.study["extract"]
    rows = [("layers", extract["layers"]), ("pooling", extract["pooling"]), ("precision", extract["dtype"])]
    # A study that trains none has no recipe of training, whatever its settings are.
    rows += [(name.replace("_", " "), cfg[name]) for name in RECIPE if name in cfg and cfg.get("kinds", True)]
    labeller = run.study["interpret"]["labeller"]
    rows.append(("labels by", labeller.get("model") or labeller["kind"]))
    return "## Recipe\n\n" + _table(("", ""), [(name, _setting(value)) for name, value in rows])


def _imported(run: Run) -> list[str]:
    rows = [
        (one, origin.line, run.metrics(one)["n_latents"], run.metrics(one)["k"])
        for one in imported_ids(run)
        if (origin := run.origin(one)) is not None
    ]
    if not rows:
        return []
    heads = ("dictionary", "came from", "latents", "k")
    return ["## Imported\n\nOthers trained these; the recipe is not theirs.\n\n" + _table(heads, rows)]


def _licence_of(run: Run, license: str | None, ids: Sequence[DictionaryId] | None = None) -> list[str]:
    """That the weights of imported dictionaries (`ids`, or all of the run) may be under another licence."""
    if license is None or not (imported_ids(run) if ids is None else ids):
        return []
    return [f"The licence, {escaped(license)}, is stated by whoever pushed this. Weights that were imported may be "
            "under another: their source says."]  # fmt: skip


def _criteria(run: Run) -> str:
    if not run.has("criteria.json"):
        return "## Criteria\n\nNot measured in this run."
    rows = [
        (row["name"], _interval(row["value"], row["ci"]), f"{row['comparison']} {_number(row['threshold'])}",
         f"{_interval(row['null']['value'], row['null']['ci'])}: {row['null']['name']}" if row["null"] else "–",
         row["verdict"])
        for row in run.criteria["criteria"]
    ]  # fmt: skip
    heads = ("criterion", "value [95% CI]", "threshold", "its null", "verdict")
    lines = [f"- {escaped(line)}" for line in run.criteria["headline"]]
    return "## The seven criteria, each beside its null\n\n" + _table(heads, rows) + "\n\n" + "\n".join(lines)


def _limits(run: Run, texts: bool, one: DictionaryId | None = None) -> str:
    lines: list[str] = []
    if run.study["extract"]["pooling"] != "none":
        pooling = run.study["extract"]["pooling"]
        lines.append(f"It was measured here on text vectors ({pooling} over a text's tokens); what it was trained on "
                     "is for its source to say." if one is not None and one.is_imported else
                     f"Activations are text vectors ({pooling} over a text's tokens). Single tokens have larger "
                     "norms and other directions than the dictionaries were trained on.")  # fmt: skip
    if one is not None and len(sides_of(one)) > 1:
        lines.append("This dictionary takes two checkpoints' activations: it can be attached to no single model.")
    if run.study["models"].get("organism"):
        lines.append("The pair was made by antar with a planted difference. It shows that the method works, and "
                     "nothing about a natural model.")  # fmt: skip
    else:
        lines.append("An effect that a sham (base trained on with nothing to learn) shows too is no finding: read "
                     "each d beside its nulls.")  # fmt: skip
    if run.has("criteria.json"):
        open_ones = [row["name"] for row in run.criteria["criteria"] if row["verdict"] == "not measured"]
        failed = [row["name"] for row in run.criteria["criteria"] if row["verdict"] == "fail"]
        lines += [f"Not measured: {', '.join(open_ones)}."] if open_ones else []
        lines += [f"Failed: {', '.join(failed)}."] if failed else []
    if run.study["interpret"]["labeller"]["kind"] == "keywords":
        lines.append("Labels are keywords: words that set a feature's examples apart, not what it means.")
    else:
        lines.append("Labels, verdicts and reasons are a language model's words, and may quote texts.")
    if not texts:
        lines.append("Without the texts no feature can be read in its examples.")
    return "## Limits\n\n" + "\n".join(f"- {escaped(line)}" for line in lines)


def _origin(run: Run) -> str:
    made = run.lock.get("versions", {}).get("antar", "an unrecorded version")
    return (f"Made by antar {escaped(made)}, shared by antar {__version__}. `antar-share.json` has the checksum of "
            "every file but this one.")  # fmt: skip


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [list(heads), ["---"] * len(heads), *([escaped(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _setting(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _interval(value: float | None, ci: Sequence[float] | None) -> str:
    return _number(value) if value is None or not ci else f"{_number(value)} [{_number(ci[0])}, {_number(ci[1])}]"


def _beside(value: float | None, what: str, null: float | None) -> str:
    return f"{_number(value)} (its null, {what}: {_number(null)})"
