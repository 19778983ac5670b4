"""The method in words, with the study's own numbers; the published study's faults that were mended; the limits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from antar.dictionaries.config import published_faults
from antar.features.readings import is_first_reading
from antar.report.blocks import Block, Bullets, Column, Facts, Folded, Paragraph, Row, Section, Table
from antar.report.shams import drift_limits
from antar.report.text import listing, number, plural, setting
from antar.run import Run

UNKNOWN = "not recorded"


def pick(tree: Any, *path: str) -> Any:
    """`tree[path[0]][path[1]]…`; None where something on the way is missing."""
    for key in path:
        if not isinstance(tree, Mapping) or key not in tree:
            return None
        tree = tree[key]
    return tree


def said(value: Any) -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, list | tuple):
        return listing([said(one) for one in value])
    return setting(value)


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
    settings = [("seed", said(study.get("seed")))]
    settings += [(name, str(version)) for name, version in (run.lock.get("versions") or {}).items()]
    settings += [
        (name, said(value)) for name, value in (run.lock.get("machine") or {}).items() if value not in (None, [])
    ]
    blocks.append(Folded("Seed, versions and machine", [Facts(settings)]))
    return Section("method", "Method", blocks)


def _models(run: Run) -> str:
    organism = pick(run.study, "models", "organism")
    names = run.names
    if organism is None:
        paths = [pick(run.study, "models", side, "path") for side in ("base", "chat")]
        revisions = [pick(run.study, "models", side, "revision") for side in ("base", "chat")]
        told = [
            f"{said(path)}" + (f" at {revision}" if revision else "")
            for path, revision in zip(paths, revisions, strict=True)
        ]
        text = f"The two checkpoints are {names['base']} ({told[0]}) and {names['chat']} ({told[1]})."
    else:
        text = (
            f"The two checkpoints are {names['base']} and {names['chat']}, an organism of kind "
            f"{said(pick(organism, 'kind'))} that antar made itself (seed {said(pick(organism, 'seed'))})."
        )
    if pick(run.study, "models", "random_weights"):
        text += f" A third has {names['base']}'s architecture and random weights: it knows nothing."
    shams = list(pick(organism, "shams") or pick(run.study, "models", "shams") or [])
    if not shams:
        return text + " There is no sham: no checkpoint that was trained on with nothing to learn."
    what = said(pick(run.study, "models", "sham_is"))
    return f"{text} Beside them {plural(len(shams), 'sham')} ({listing(shams)}): {what}."


def _extraction(run: Run) -> str:
    extract = pick(run.study, "extract")
    texts = f"{is_first_reading(run.texts).sum():,}" if run.has("corpus/texts.parquet") else UNKNOWN
    return (
        f"All {texts} texts were read by every checkpoint from the same token ids under the same mask, at most "
        f"{said(pick(extract, 'max_tokens'))} tokens each, in {said(pick(extract, 'dtype'))}; at layers "
        f"{said(pick(extract, 'layers'))} (the output of that block, counted from 0) "
        + _POOLING[pick(extract, "pooling") or "mean"]
        + chat_template_words(run)
        + " Special tokens are left out"
        + (", and so are tokens of outlying norm. " if pick(extract, "outliers") else ". ")
        + "The delta of a text is the second checkpoint's vector minus the first's."
        + _precision_words(run)
    )


_POOLING = {
    "mean": "the content tokens were averaged in 32-bit floats. ",
    "last": "the last content token was taken. ",
    "max": "the largest value over the content tokens was taken in each dimension. ",
    "none": "every content token was kept: dictionaries learn from tokens, and a text's code pools its tokens'. ",
}


def _precision_words(run: Run) -> str:
    """How far the deltas are off for lack of float32, where that was measured."""
    manifest = run.manifest("activations/precision")
    if manifest is None:
        return ""
    errors = [error for error in manifest.facts["errors"].values() if error is not None]
    if not errors:
        return ""
    return (
        f" In {manifest.facts['dtype']} the deltas are off by {min(errors):.1%} to {max(errors):.1%} of their size, "
        "measured on texts that were read in float32 too."
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


def _dictionaries(study: Mapping[str, Any]) -> str:
    cfg = pick(study, "dictionaries")
    kinds = [_KINDS.get(kind, said(kind)) for kind in pick(cfg, "kinds") or ["topk"]]
    return (
        f"At each layer dictionaries were trained on {listing(pick(cfg, 'sides') or ['base', 'chat', 'delta'])} "
        f"({listing(kinds)}): {said(pick(cfg, 'n_latents'))} latents of which "
        f"{said(pick(cfg, 'k'))} may fire on a text, preset {said(pick(cfg, 'preset'))}, "
        f"{_OPTIMISERS[pick(cfg, 'optimiser') or 'adamw']} at {said(pick(cfg, 'lr'))} with weight decay "
        f"{said(pick(cfg, 'weight_decay'))}, batches of "
        f"{said(pick(cfg, 'batch'))}, at most {said(pick(cfg, 'max_epochs'))} epochs, AuxK × "
        f"{said(pick(cfg, 'auxk_coefficient'))} with {said(pick(cfg, 'k_aux'))} dead latents. Trained on "
        f"{_texts_of(pick(cfg, 'train_on'))}, stopped by {_texts_of(pick(cfg, 'validate_on'))}. "
        + (
            "Inputs are as they were read."
            if pick(cfg, "normalise") is False
            else "Inputs are centred and scaled on the training split, and both are folded back, so that codes are "
            "in activation units."
        )
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
    known = {"all": "all training texts", "cultural": "cultural training texts", "control": "the controls",
             "val": "the validation split"}  # fmt: skip
    return known.get(name, said(name))


def _contrasts(run: Run) -> str:
    cfg = pick(run.study, "contrasts")
    facets = pick(cfg, "facets") or []
    return (
        "Contrasts compare the codes of held-out texts. The effect size is d_av with a 95% interval; p comes "
        f"from {said(pick(cfg, 'permutations'))} permutations of documents "
        f"({said(pick(cfg, 'facet_permutations'))} for facets) on a statistic that is robust to texts "
        "of one document resembling each other, labels being shuffled within bins of text length; q is "
        "Benjamini–Hochberg over all features and sites of a contrast. Languages are pooled as strata. "
        + (f"Facets: {listing(facets)}. " if facets else "No facet was compared. ")
        + "A shift needs one dictionary that encodes both checkpoints: dictionaries trained apart share no "
        "index, so their latents are never compared by number. On a delta dictionary, culture is the question "
        "whether the shift is larger on cultural texts."
    )


def _interpretation(study: Mapping[str, Any]) -> str:
    workers = [_worker(pick(study, "interpret", part)) for part in ("labeller", "validator", "predictor")]
    return (
        f"Labels come from {workers[0]}, verdicts on them from {workers[1]}, predictions from the label alone "
        f"from {workers[2]}. A labeller sees texts of the selection half only; everything that judges a label "
        "uses other documents."
    )


def _worker(worker: Any) -> str:
    if pick(worker, "kind") == "llamacpp":
        return str(pick(worker, "gguf")).rsplit("/", 1)[-1]
    if pick(worker, "kind") == "llm":
        model = said(pick(worker, "model"))
        if not pick(worker, "base_url"):
            return f"contrastive keywords (the study names {model}, for which no endpoint was given)"
        return model
    return "contrastive keywords" if pick(worker, "kind") == "keywords" else UNKNOWN


def _faults() -> Table:
    columns = [Column("fault", False), Column("in the published study", False), Column("here", False)]
    rows = [Row(fault.name, [fault.was, fault.now]) for fault in published_faults]
    return Table("Faults of the published recipe, and what was done about each", columns, rows, stacked=True)


def limits_section(run: Run) -> Section:
    return Section("limits", "What this run cannot say", [Bullets(limits(run))])


def _people_agreed(run: Run) -> bool:
    criteria = run.criteria["criteria"] if run.has("criteria.json") else []
    return any(one["number"] == 6 and one["value"] is not None for one in criteria)


def _drift_of_shams(run: Run) -> list[str]:
    """How far each checkpoint of a fine-tuned organism moved: a sham that moved less is a weaker null."""
    if not run.has("organism/organism.json"):
        return []
    drift = json.loads((run.folder / "organism" / "organism.json").read_bytes())
    moved = [
        f"{side} {number(one['weight_drift']['all'])}"
        for side, one in sorted(drift.get("sides", {}).items())
        if isinstance(one, dict) and "weight_drift" in one
    ]
    if not moved:
        return []
    return [
        "The shams learnt other texts for as many steps, which is not equal drift. Weights moved, as a share of "
        f"their norm: {', '.join(moved)}."
    ]


def _is_asked(study: dict[str, Any], role: str) -> bool:
    """Whether a language model has this role and can be asked."""
    worker = pick(study, "interpret", role)
    return pick(worker, "kind") == "llamacpp" or bool(pick(worker, "base_url"))


def limits(run: Run) -> list[str]:
    """What a reader must not take from this run, as it is."""
    study = run.study
    found: list[str] = []
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
