"""The probe texts of the tiny organism: mentions of every concept, and as many of control topics.

Each control text is the twin of one cultural text: the same language, frame and (as nearly as the lexicon allows)
the same number of words. Probe texts come in documents of one narrator, so that a split by document means something.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import numpy as np

from antar.core.seeds import numpy_rng
from antar.organisms.config import TinyConfig
from antar.organisms.grammar import LANGUAGES, Lexicon, Mention, Speaker, closest_form


@dataclass(frozen=True)
class ProbeText:
    """One line of `texts.jsonl`. `concept` and `category` are None for controls, `topic` for cultural texts."""

    text_id: str
    text: str
    group: str
    language: str
    document: str
    concept: str | None
    category: str | None
    topic: str | None
    template: str


def probe_texts(cfg: TinyConfig, lexicon: Lexicon) -> list[ProbeText]:
    """All probe texts, distinct, in a fixed order: language by language, cultural and then control."""
    texts: list[ProbeText] = []
    for language in LANGUAGES:
        speaker = Speaker(lexicon, numpy_rng(cfg.seed, "probes", language))
        cultural: list[Mention] = []
        for concept in lexicon.concepts:
            mentions = _pages(cfg, speaker, [concept.name] * cfg.probes_per_concept, lexicon, language, twins=None)
            texts += _lines(cfg, mentions, concept.name)
            cultural += mentions
        twins = _shuffled(cultural, numpy_rng(cfg.seed, "twins", language))
        names = [subject.name for subject in lexicon.controls]
        for i, name in enumerate(names):
            mine = twins[i :: len(names)]
            texts += _lines(cfg, _pages(cfg, speaker, [name] * len(mine), lexicon, language, twins=mine), name)
    return texts


def _shuffled(mentions: list[Mention], rng: np.random.Generator) -> list[Mention]:
    return [mentions[i] for i in rng.permutation(len(mentions))]


def _pages(
    cfg: TinyConfig, speaker: Speaker, names: list[str], lexicon: Lexicon, language: str, twins: list[Mention] | None
) -> list[Mention]:
    """Mentions of the named subjects, in pages of `texts_per_document` by one narrator each."""
    subjects = {subject.name: subject for subject in lexicon.subjects}
    mentions: list[Mention] = []
    narrator = ""
    for i, name in enumerate(names):
        if i % cfg.texts_per_document == 0:
            narrator = speaker.narrator(language)
        subject = subjects[name]
        if twins is None:
            mentions.append(speaker.mention(subject, language, who=narrator))
            continue
        twin = twins[i]
        words = len(twin.subject.wording[language].forms[twin.form].split())
        form = closest_form(subject, language, words)
        mentions.append(speaker.mention(subject, language, form=form, frame=twin.frame, who=narrator))
    return mentions


def _lines(cfg: TinyConfig, mentions: list[Mention], name: str) -> list[ProbeText]:
    return [
        ProbeText(
            text_id=f"{name}-{mention.language}-{i:03d}",
            text=mention.text,
            group="cultural" if mention.subject.is_cultural else "control",
            language=mention.language,
            document=f"{name}-{mention.language}-page{i // cfg.texts_per_document:03d}",
            concept=name if mention.subject.is_cultural else None,
            category=mention.subject.category,
            topic=None if mention.subject.is_cultural else name,
            template=f"{mention.language}-{mention.frame + 1}",
        )
        for i, mention in enumerate(mentions)
    ]


def as_jsonl(texts: list[ProbeText]) -> str:
    return "".join(json.dumps(asdict(text), ensure_ascii=False) + "\n" for text in texts)
