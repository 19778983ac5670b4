"""Stage 1: the texts. `corpus/texts.parquet` and a manifest that counts them and says what was dropped and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from antar.core.atomic import write_parquet
from antar.core.errors import UserError
from antar.core.hashing import code_version, sha256_file
from antar.core.manifest import Fingerprint
from antar.core.progress import say
from antar.corpora import build_corpus, facet_columns, in_both_readings, local_inputs
from antar.corpora.config import CorpusConfig, HubSource
from antar.features.contrasts import check_within
from antar.organisms.config import TinyConfig
from antar.stages.artifact import Artifact, ensure_files
from antar.stages.context import Context, NotReady, config_slice, lock_key


def artifacts(context: Context) -> list[Artifact]:
    study = context.study
    inputs = local_inputs(study.corpus, context.study_folder, context.hub_folder(), _organism_texts(context))
    return [
        Artifact(
            "corpus",
            context.folder / "corpus",
            Fingerprint(
                inputs={name: sha256_file(path) for name, path in sorted(inputs.items()) if path.is_file()},
                config=config_slice(study.corpus) | {"seed": study.seed} | _readings(context),
                code=code_version("corpora"),
            ),
        )
    ]


def _readings(context: Context) -> dict[str, str]:
    """What extraction says that makes the corpus another: each text once, or once bare and once in the template."""
    return {"readings": "both"} if context.study.extract.chat_template == "both" else {}


def make(context: Context) -> None:
    (artifact,) = artifacts(context)

    def build() -> tuple[Sequence[Path], Mapping[str, Any]]:
        corpus = build_corpus(
            _pinned(context),
            seed=context.study.seed,
            study_folder=context.study_folder,
            from_folder=context.hub_folder(),
            organism_texts=_organism_texts(context),
        )
        context.write_lock(_commits_read(context, corpus.facts["sources"]))
        if _readings(context):
            corpus = in_both_readings(corpus)
        path = artifact.folder / "texts.parquet"
        write_parquet(path, corpus.texts)
        return [path], {"n_texts": corpus.texts.height, **corpus.facts}

    manifest = ensure_files(artifact, build)
    texts = context.texts()
    known = facet_columns(texts)
    for facet in context.study.contrasts.facets:
        if facet not in known:  # said now, not hours later when facets are compared
            raise UserError(f"contrasts.facets: expected one of {', '.join(known) or 'no facet'}, found {facet!r}")
    check_within(context.study.contrasts, texts)
    say(f"  {manifest.facts['n_texts']:,} texts")


def _pinned(context: Context) -> CorpusConfig:
    """The corpus with the revisions that this run read before: a rebuilt corpus reads the same commits."""
    cfg, found = context.study.corpus, context.revisions()
    sources = [
        source.model_copy(update={"revision": found.get(lock_key(source.repo, source.revision), source.revision)})
        if isinstance(source, HubSource)
        else source
        for source in cfg.sources
    ]
    return cfg.model_copy(update={"sources": sources})


def _commits_read(context: Context, facts: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    asked = {source.label: source for source in context.study.corpus.sources if isinstance(source, HubSource)}
    return {
        lock_key(source.repo, source.revision): facts[label]["revision"]
        for label, source in asked.items()
        if facts[label].get("from") == "hub"
    }


def _organism_texts(context: Context) -> Path | None:
    """The probe texts of an organism that comes from a grammar; None for every other study."""
    if not isinstance(context.study.models.organism, TinyConfig):
        return None
    path = context.folder / "organism" / "texts.jsonl"
    if not path.is_file():
        raise NotReady("organism/texts.jsonl")
    return path
