"""What a study costs before it is run: disk, memory, forward tokens, LLM calls. Counted from the study file alone."""

from __future__ import annotations

from dataclasses import dataclass

from antar.core.errors import UserError
from antar.core.manifest import MANIFEST_NAME, read_manifest
from antar.core.sites import DictionaryId
from antar.corpora.config import Dosa, Files, Source
from antar.corpora.config import Organism as OrganismTexts
from antar.corpora.records import Place
from antar.corpora.sources import open_source
from antar.dictionaries.config import DictionaryConfig
from antar.dictionaries.stream import SAMPLE_ROWS
from antar.organisms.config import TinyConfig
from antar.organisms.grammar import load_lexicon
from antar.organisms.tiny_texts import probe_texts
from antar.stages.context import Context
from antar.stages.contrast_costs import contrast_costs
from antar.stages.imported import known_width
from antar.stages.label_costs import label_costs
from antar.stages.sham_costs import sham_costs
from antar.stages.token_level import is_token_level


@dataclass(frozen=True)
class Cost:
    what: str
    amount: str
    basis: str


def estimate_costs(context: Context) -> list[Cost]:
    """Upper estimates. Widths come from the models' configs where those can be read without a download."""
    study = context.study
    corpus = read_manifest(context.folder / "corpus" / MANIFEST_NAME)
    wanted = [] if corpus else [count for source in study.corpus.sources for count in _asked(source, context)]
    readings = 2 if study.extract.chat_template == "both" else 1
    # The corpus that is there may be that of a study which read its texts once, or twice.
    counted = int(corpus.facts["n_texts"]) // len(corpus.facts.get("readings", ("one",))) if corpus else None
    n_texts = readings * (sum(filter(None, wanted)) if counted is None else counted)
    basis = "counted in the corpus" if corpus else "asked for in the study file, or in its files before cleaning"
    if not corpus and None in wanted:
        basis += "; without sources that are taken whole from the hub, or cannot be read"
    if readings > 1:
        basis += "; each is read twice and counted twice"
    tokens = n_texts * study.extract.max_tokens
    sites, ids = len(context.sites()), context.dictionary_ids()
    cfg, width = study.dictionaries, known_width(context)
    tokens_a_text = study.extract.max_tokens if is_token_level(context) else 1
    code_bytes = sum(n_texts * _fired(one, cfg, width, tokens_a_text) * 8 for one, _ in context.code_sets())
    disk = code_bytes
    costs = [
        Cost("texts", f"{n_texts:,}", basis),
        Cost(
            "forward tokens",
            f"at most {tokens * len(context.models()):,}",
            f"{n_texts:,} texts × {study.extract.max_tokens} tokens × {len(context.models())} checkpoints",
        ),
        _chat_template(context),
        Cost("dictionaries", f"{len(ids)}", _made_of(context)),
        Cost("nulls", *_nulls(context)),
    ]
    if width is not None:
        activation_bytes = sites * n_texts * tokens_a_text * width * 4
        dictionary_bytes = sum(2 * _latents(one, cfg, width) * _columns(one, width) * 4 for one in ids)
        disk += activation_bytes + dictionary_bytes
        in_memory = None if is_token_level(context) else n_texts
        memory = max(_memory(one, cfg, in_memory, width) for one in ids)
        rows = "its rows twice" if in_memory is not None else "a buffer and samples of its rows"
        costs.append(Cost("memory to train", _gib(memory), f"one dictionary with its optimiser, and {rows}"))
    known = f"activations, dictionaries and {len(context.code_sets())} sets of codes" if width else "codes only"
    if {"batchtopk", "crosscoder"} & set(cfg.kinds):
        known += f", at {cfg.k} latents a text on average"
    costs.append(Cost("disk", _gib(disk), known + ("" if width else ": the model's width is not known here")))
    costs += [Cost(*one) for one in sham_costs(context)]
    fires = {one: n_texts * _fired(one, cfg, width, tokens_a_text) for one in ids}
    costs += [Cost(*one) for one in contrast_costs(context, fires, counted=corpus is not None)]
    costs += [Cost(*one) for one in label_costs(context)]
    return costs


def _chat_template(context: Context) -> Cost:
    if context.study.extract.chat_template == "both":
        twice = "each text is read bare and as the one user message, where the template's tokens come on top"
        return Cost("chat template", "both", twice)
    if not context.study.extract.chat_template:
        return Cost("chat template", "off", "texts are read as they are, as published (extract.chat_template)")
    return Cost("chat template", "on", "each text as the one user message; the template's tokens come on top")


def _made_of(context: Context) -> str:
    """What the dictionaries are that are not the study's own."""
    said, ids = context.replicas_as_said, context.dictionary_ids()
    told = f" ({said.wanted} each, as --folds and --seeds said)" if said else ""
    return (
        f"{sum(one.is_replica for one in ids)} of them replicas for stability{told}, "
        f"{sum(one.is_null for one in ids)} nulls, of which {sum(one.is_baseline for one in ids)} need no training"
        + (f"; {theirs} trained by others" if (theirs := sum(one.is_imported for one in ids)) else "")
    )


def _nulls(context: Context) -> tuple[str, str]:
    """How many nulls the study has, and which; then those that cost more and are off."""
    study = context.study
    words = {"same_checkpoint": "same checkpoint", "shuffled": "shuffled groups"}
    kinds = [one.kind for one in context.dictionary_ids() if one.is_baseline]
    on: list[str] = [words.get(name, name) for name in study.contrasts.nulls] + [
        kind for kind in dict.fromkeys(kinds) if kind
    ]
    dear = {
        "another seed": study.dictionaries.seeds > 0,
        "shams": bool(study.sham_names),
        "random weights": study.models.random_weights is not None,
    }
    on += [name for name, is_on in dear.items() if is_on]
    off = [name for name, is_on in dear.items() if not is_on]
    return f"{len(on)}", ", ".join(on) + (f"; off: {', '.join(off)}" if off else "")


def _k(one: DictionaryId, cfg: DictionaryConfig, width: int | None) -> int:
    """Latents that fire on a text; PCA and neurons have no more than there are columns."""
    return min(cfg.k, _columns(one, width)) if one.kind in ("pca", "neurons") and width is not None else cfg.k


def _fired(one: DictionaryId, cfg: DictionaryConfig, width: int | None, tokens_a_text: int) -> int:
    """Latents that fire on a text at most: those of all its tokens where each has its own."""
    k = _k(one, cfg, width)
    return k if tokens_a_text == 1 else min(k * tokens_a_text, max(cfg.n_latents, k))


def _latents(one: DictionaryId, cfg: DictionaryConfig, width: int) -> int:
    if one.kind == "neurons":
        return 2 * _columns(one, width)
    return 2 * _k(one, cfg, width) if one.kind == "pca" else cfg.n_latents


def _columns(one: DictionaryId, width: int) -> int:
    return 2 * width if one.kind == "crosscoder" else width


def _memory(one: DictionaryId, cfg: DictionaryConfig, n_texts: int | None, width: int) -> int:
    """Weights, gradients and two moments, and the rows in fp32 twice (raw and normalised); of both sides where the
    dictionary reads both. n_texts: None where rows stay on the disk; then the buffer, and the samples of the training
    rows (normalised), of validation (twice) and of what it is measured on (train and held-out)."""
    if n_texts is None:
        rows = cfg.stream_buffer * 2**20 + 5 * SAMPLE_ROWS * _columns(one, width) * 4
    else:
        rows = 2 * n_texts * width * (2 if one.trained_on == "joint" else 1) * 4
    return 8 * _latents(one, cfg, width) * _columns(one, width) * 4 + rows


def _asked(source: Source, context: Context) -> list[int | None]:
    """Texts that a source is asked for, language by language, or that are in its files; None where that is not
    known here."""
    organism = context.study.models.organism
    # A masked copy of every clue is a text of its own.
    copies = 2 if getattr(source, "masked", False) else 1
    if source.n is None and isinstance(source, OrganismTexts) and isinstance(organism, TinyConfig):
        return [len(probe_texts(organism, load_lexicon()))]
    if source.n is None and isinstance(source, Files | Dosa):
        try:
            there = open_source(source, Place(context.study_folder, context.hub_folder())).texts
            return [sum(1 for _ in there) * copies]
        except UserError:  # the corpus stage says it, where it stands
            return [None]
    asked = list(source.n.values()) if isinstance(source.n, dict) else [source.n]
    return [None if n is None else n * copies for n in asked]


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:,.2f} GiB"
