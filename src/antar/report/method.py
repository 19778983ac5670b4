"""The method in words, with the study's own numbers; the published study's faults that were mended; the limits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from antar.dictionaries.config import published_faults
from antar.features.readings import is_first_reading
from antar.report.blocks import Block, Bullets, Column, Paragraph, Row, Section, Table
from antar.report.shams import drift_limits
from antar.report.sources import TEXTS, at, number, percent, quoted, setting
from antar.report.words import Prose, joined, listed, told
from antar.run import Run

UNKNOWN = "not recorded"


def pick(tree: Any, *path: str) -> Any:
    """`tree[path[0]][path[1]]…`; None where something on the way is missing."""
    for key in path:
        if not isinstance(tree, Mapping) or key not in tree:
            return None
        tree = tree[key]
    return tree


def said(study: Mapping[str, Any], *path: str) -> Prose:
    """The study's own setting at `path`, with that as its source."""
    value = pick(study, *path)
    if value is None:
        return UNKNOWN
    source = at("study.yaml", *path)
    if isinstance(value, list | tuple):
        return listed([_one(one, f"{source}/{i}") for i, one in enumerate(value)])
    return _one(value, source)


def _one(value: Any, source: str) -> Prose:
    return quoted(value, source) if isinstance(value, str) else setting(value, source)


def method_section(run: Run) -> Section:
    study = run.study
    blocks: list[Block] = [
        Paragraph(_models(run)),
        Paragraph(_extraction(run)),
        Paragraph(_dictionaries(study)),
        Paragraph(_contrasts(run)),
        Paragraph(_interpretation(study)),
    ]
    if pick(study, "dictionaries", "preset") == "published":
        blocks.append(_faults())
    return Section("method", "Method", blocks, appendix=True)


def _models(run: Run) -> Prose:
    study = run.study
    organism = pick(study, "models", "organism")
    names = run.names
    if organism is None:
        places = [
            said(study, "models", side, "path")
            + (
                told(" at {}", said(study, "models", side, "revision"))
                if pick(study, "models", side, "revision")
                else ""
            )
            for side in ("base", "chat")
        ]
        text = told(
            "The two checkpoints are {} ({}) and {} ({}).", names["base"], places[0], names["chat"], places[1]
        )
    else:
        text = told(
            "The two checkpoints are {} and {}, an organism of kind {} that antar made itself (seed {}).",
            names["base"],
            names["chat"],
            said(study, "models", "organism", "kind"),
            said(study, "models", "organism", "seed"),
        )
    if pick(study, "models", "random_weights"):
        text = text + f" A third has {names['base']}'s architecture and random weights: it knows nothing."
    shams = list(pick(organism, "shams") or pick(study, "models", "shams") or [])
    if not shams:
        return text + " There is no sham: no checkpoint that was trained on with nothing to learn."
    kind = "a sham" if len(shams) == 1 else "shams"
    return text + told(" Beside them {} ({}): {}.", kind, listed(shams), said(study, "models", "sham_is"))


def _extraction(run: Run) -> Prose:
    study = run.study
    texts: Prose = UNKNOWN
    if run.has("corpus/texts.parquet"):
        texts = number(int(is_first_reading(run.texts).sum()), TEXTS.get("first_readings"))
    return told(
        "All {} texts were read by every checkpoint from the same token ids under the same mask, at most {} tokens "
        "each, in {}; "
        "at layers {} (the output of that block, counted from 0) {}{} Special tokens are left out{}The delta of a "
        "text is the "
        "second checkpoint's vector minus the first's.{}",
        texts,
        said(study, "extract", "max_tokens"),
        said(study, "extract", "dtype"),
        said(study, "extract", "layers"),
        _POOLING[pick(study, "extract", "pooling") or "mean"],
        chat_template_words(run),
        ", and so are tokens of outlying norm. " if pick(study, "extract", "outliers") else ". ",
        _precision_words(run),
    )


_POOLING = {
    "mean": "the content tokens were averaged in 32-bit floats. ",
    "last": "the last content token was taken. ",
    "max": "the largest value over the content tokens was taken in each dimension. ",
    "none": "every content token was kept: dictionaries learn from tokens, and a text's code pools its tokens'. ",
}


def _precision_words(run: Run) -> Prose:
    """How far the deltas are off for lack of float32, where that was measured."""
    manifest = run.manifest("activations/precision")
    if manifest is None:
        return ""
    file = ("activations/precision/manifest.json", "facts")
    errors = {site: error for site, error in manifest.facts["errors"].items() if error is not None}
    if not errors:
        return ""
    least, most = min(errors, key=lambda site: errors[site]), max(errors, key=lambda site: errors[site])
    ends = [percent(errors[site], at(*file, "errors", site)) for site in (least, most)]
    return told(
        " In {} the deltas are off by {} to {} of their size, measured on texts that were read in float32 too.",
        quoted(manifest.facts["dtype"], at(*file, "dtype")),
        *ends,
    )


def chat_template_words(run: Run) -> str:
    """Whether texts were read bare, as a chat message, or both."""
    if pick(run.study, "extract", "chat_template") == "both":
        return (
            "Every text was read twice by every checkpoint: bare, and as the single user message in the chat "
            f"template of {run.names['chat']}, where only the text's own tokens were averaged. Both readings are "
            "rows of one document (facet `reading`); for a feature only the stronger of a text's two is shown."
        )
    if pick(run.study, "extract", "chat_template"):
        return (
            "Every text was put as the single user message into the chat template of "
            f"{run.names['chat']}, for every checkpoint; only the text's own tokens were averaged."
        )
    return "Texts were read bare, without a chat template."


def _dictionaries(study: Mapping[str, Any]) -> Prose:
    cfg = pick(study, "dictionaries")
    kinds = [_KINDS.get(kind, str(kind)) for kind in pick(cfg, "kinds") or ["topk"]]

    def its(name: str) -> Prose:
        return said(study, "dictionaries", name)

    return told(
        "At each layer dictionaries were trained on {} ({}): {} latents of which {} may fire on a text, preset {}, "
        "{} at {} with "
        "weight decay {}, batches of {}, at most {} epochs, AuxK × {} with {} dead latents. Trained on {}, stopped "
        "by {}. {}",
        listed(pick(cfg, "sides") or ["base", "chat", "delta"]),
        listed(kinds),
        its("n_latents"),
        its("k"),
        its("preset"),
        _OPTIMISERS[pick(cfg, "optimiser") or "adamw"],
        its("lr"),
        its("weight_decay"),
        its("batch"),
        its("max_epochs"),
        its("auxk_coefficient"),
        its("k_aux"),
        _texts_of(pick(cfg, "train_on")),
        _texts_of(pick(cfg, "validate_on")),
        "Inputs are as they were read."
        if pick(cfg, "normalise") is False
        else "Inputs are centred and scaled on the training split, and both are folded back, so that codes are in "
        "activation "
        "units.",
    )


_OPTIMISERS = {"adam": "Adam", "adamw": "AdamW"}
_KINDS = {
    "topk": "TopK",
    "batchtopk": "BatchTopK, whose k is an average over a batch",
    "crosscoder": "a crosscoder of base and chat",
    "pca": "PCA in the form of a dictionary",
    "random": "random directions in the form of a dictionary",
    "neurons": "raw neurons in the form of a dictionary",
}


def _texts_of(name: Any) -> str:
    known = {
        "all": "all training texts",
        "cultural": "cultural training texts",
        "control": "the controls",
        "val": "the validation split",
    }
    return known.get(name, UNKNOWN if name is None else str(name))


def _contrasts(run: Run) -> Prose:
    study = run.study
    facets = pick(study, "contrasts", "facets") or []
    return told(
        "Contrasts compare the codes of held-out texts. The effect size is d_av with a 95% interval; p comes "
        "from {} permutations of documents ({} for facets) on a statistic that is robust to texts "
        "of one document resembling each other, labels being shuffled within bins of text length; q is "
        "Benjamini–Hochberg over all features and sites of a contrast. Languages are pooled as strata. {}"
        "A shift needs one dictionary that encodes both checkpoints: dictionaries trained apart share no "
        "index, so their latents are never compared by number. On a delta dictionary, culture is the question "
        "whether the shift is larger on cultural texts.",
        said(study, "contrasts", "permutations"),
        said(study, "contrasts", "facet_permutations"),
        told("Facets: {}. ", listed(facets)) if facets else "No facet was compared. ",
    )


def _interpretation(study: Mapping[str, Any]) -> Prose:
    workers = [_worker(study, part) for part in ("labeller", "validator", "predictor")]
    return told(
        "Labels come from {}, verdicts on them from {}, predictions from the label alone from {}. A labeller sees "
        "texts of the "
        "selection half only; everything that judges a label uses other documents.",
        *workers,
    )


def _worker(study: Mapping[str, Any], part: str) -> Prose:
    worker = pick(study, "interpret", part)
    if pick(worker, "kind") == "llamacpp":
        return quoted(
            str(pick(worker, "gguf")).rsplit("/", 1)[-1], at("study.yaml", "interpret", part, "gguf") + ":name"
        )
    if pick(worker, "kind") == "llm":
        model = said(study, "interpret", part, "model")
        if not pick(worker, "base_url"):
            return told("contrastive keywords (the study names {}, for which no endpoint was given)", model)
        return model
    return "contrastive keywords" if pick(worker, "kind") == "keywords" else UNKNOWN


def _faults() -> Table:
    columns = [Column("fault", False), Column("in the published study", False), Column("here", False)]
    rows = [Row(fault.name, [fault.was, fault.now]) for fault in published_faults]
    return Table("Faults of the published recipe, and what was done about each", columns, rows, stacked=True)


def limits_section(run: Run) -> Section:
    return Section("limits", "Limits: what this run cannot say", [Bullets(limits(run))])


def _people_agreed(run: Run) -> bool:
    criteria = run.criteria["criteria"] if run.has("criteria.json") else []
    return any(one["number"] == 6 and one["value"] is not None for one in criteria)


def _drift_of_shams(run: Run) -> list[Prose]:
    """How far each checkpoint of a fine-tuned organism moved: a sham that moved less is a weaker null."""
    if not run.has("organism/organism.json"):
        return []
    drift = json.loads((run.folder / "organism" / "organism.json").read_bytes())
    moved = [
        told(
            "{} {}",
            side,
            number(one["weight_drift"]["all"], at("organism/organism.json", "sides", side, "weight_drift", "all")),
        )
        for side, one in sorted(drift.get("sides", {}).items())
        if isinstance(one, dict) and "weight_drift" in one
    ]
    if not moved:
        return []
    return [
        told(
            "The shams learnt other texts for as many steps, which is not equal drift. Weights moved, as a share of "
            "their norm: {}.",
            joined(moved, ", "),
        )
    ]


def _is_asked(study: dict[str, Any], role: str) -> bool:
    """Whether a language model has this role and can be asked."""
    worker = pick(study, "interpret", role)
    return pick(worker, "kind") == "llamacpp" or bool(pick(worker, "base_url"))


def limits(run: Run) -> list[Prose]:
    """What a reader must not take from this run, as it is."""
    study = run.study
    found: list[Prose] = []
    if not (pick(study, "models", "organism", "shams") or pick(study, "models", "shams")):
        found.append(
            "There is no sham. Any further training moves a model, and moves concepts unequally; what alignment "
            "did and what drift did cannot be told apart here."
        )
    if pick(study, "models", "organism") is not None:
        found.append(
            "The pair of models was made for this study. What is found and missed here says what the method does "
            "with a planted change of this kind and size, not what alignment does to a large model."
        )
    if run.truth is None:
        found.append("Nothing is known about what truly changed, so no precision or recall can be given.")
    if not any(_is_asked(study, role) for role in ("labeller", "validator", "predictor")):
        found.append(
            "No language model read the labels. Keyword labels name words that stand out in a feature's texts; "
            "they do not say what the feature does."
        )
    elif not _is_asked(study, "predictor"):
        found.append("No language model predicted from the labels, so what they are worth was not measured.")
    found += _drift_of_shams(run) + drift_limits(run)
    if not _people_agreed(run):
        found.append("No person judged a label, so agreement between people was not measured.")
    sources = pick(study, "corpus", "sources") or []
    by_design = bool(sources) and all(pick(source, "source") == "organism" for source in sources)
    if pick(study, "corpus", "match") is None and not by_design:
        found.append(
            "Controls were not matched to the cultural texts in length. Length, genre and topic are part of what "
            "is called culture here."
        )
    found += [
        "Activations are means over a text's tokens: which token carries a feature is not seen, and a text cut "
        "at the token limit is seen in part.",
        "A feature that is rare cannot reach a large d: firing on 10% of texts instead of 1% is d = 0.28. Few "
        "large effects do not mean few changes.",
        "Everything is correlation inside two checkpoints. No feature was switched off to see what the model "
        "then says.",
    ]
    return found
