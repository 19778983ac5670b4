"""A small bilingual world whose features are known: each latent fires on one theme, or on texts drawn at random."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from antar.core.sparse import SparseCodes
from antar.interpret.config import InterpretConfig
from antar.interpret.stage import interpret_run

THEMES = {
    "diwali": {"en": ["diwali", "lamps", "rangoli"], "hi": ["दीवाली", "दीया", "रंगोली"]},
    "eid": {"en": ["eid", "moon", "sewai"], "hi": ["ईद", "सेवइयाँ", "चाँद"]},
    "saree": {"en": ["saree", "silk", "loom"], "hi": ["साड़ी", "रेशम", "करघा"]},
    "tea": {"en": ["chai", "kettle", "ginger"], "hi": ["चाय", "अदरक", "केतली"]},
    "bus": {"en": ["bus", "ticket", "driver"], "hi": ["बस", "टिकट", "चालक"]},
    "rain": {"en": ["rain", "cloud", "umbrella"], "hi": ["बारिश", "बादल", "छाता"]},
}
FILLER = {
    "en": [
        "people",
        "house",
        "morning",
        "table",
        "street",
        "village",
        "friend",
        "story",
        "window",
        "garden",
        "music",
    ],
    "hi": ["लोग", "घर", "सुबह", "मेज़", "सड़क", "गाँव", "दोस्त", "कहानी", "खिड़की", "बाग़", "संगीत"],
}
GLUE = {"en": ["the", "and", "was", "with", "of"], "hi": ["और", "के", "में", "था", "की"]}
RANDOM_LATENTS = 6
DICTIONARY, SHAM, REPLICA = "base.layer02", "delta:a.layer02", "base.layer02.seed2"


@dataclass(frozen=True)
class World:
    texts: pl.DataFrame
    features: pl.DataFrame
    examples: pl.DataFrame
    codes: dict[str, SparseCodes]
    decoders: dict[str, np.ndarray]
    themes: tuple[str, ...]

    def run(
        self, folder: Path, cfg: InterpretConfig | None = None, seed: int = 7, limit: int | None = None
    ) -> dict[str, Any]:
        return interpret_run(
            self.texts, self.features, self.examples, self.codes, self.decoders,
            cfg or InterpretConfig(), seed=seed, folder=folder, limit=limit,
        )  # fmt: skip

    def run_nothing(self, folder: Path) -> dict[str, Any]:
        """A run in which nothing is live."""
        return replace(self, features=self.features.with_columns(live=pl.lit(False))).run(folder)


def sentence(rng: np.random.Generator, theme: str, language: str) -> str:
    words = list(rng.choice(THEMES[theme][language], size=2, replace=False))
    words += list(rng.choice(FILLER[language], size=int(rng.integers(3, 7)), replace=False))
    words += list(rng.choice(GLUE[language], size=3))
    return " ".join(rng.permutation(words)) + (" ।" if language == "hi" else ".")


def make_world(seed: int = 0, per_theme: int = 120) -> World:
    """Latents: one a theme and language, firing on 90% of its texts, then RANDOM_LATENTS that fire at random."""
    rng = np.random.default_rng(seed)
    rows = [
        {
            "text_id": f"{theme}-{language}-{i}", "text": sentence(rng, theme, language),
            "group": "control" if theme in {"bus", "rain"} else "cultural", "language": language, "source": "made",
            "document": f"{theme}-{i // 2}", "split": "heldout",
            "half": "select" if (i // 2) % 2 else "estimate", "theme": theme,
        }
        for theme in THEMES for language in ("en", "hi") for i in range(per_theme)
    ]  # fmt: skip
    texts = pl.DataFrame(rows)
    names = [f"{theme}/{language}" for theme in THEMES for language in ("en", "hi")]
    n_latents = len(names) + RANDOM_LATENTS
    dense = np.zeros((len(rows), n_latents), dtype=np.float32)
    for j, name in enumerate(names):
        theme, language = name.split("/")
        of_theme = np.array([row["theme"] == theme and row["language"] == language for row in rows])
        dense[of_theme & (rng.random(len(rows)) < 0.9), j] = 1.0
    dense[:, len(names) :] = rng.random((len(rows), RANDOM_LATENTS)) < 0.1
    dense *= rng.uniform(0.5, 2.0, size=dense.shape).astype(np.float32)
    codes = codes_of(dense)
    dictionaries = (DICTIONARY, SHAM, REPLICA)
    features, examples = [], []
    for dictionary in dictionaries:
        for latent in range(n_latents):
            features.append({"feature": f"{dictionary}/{latent}", "dictionary": dictionary, "latent": latent,
                             "live": True})  # fmt: skip
            for pool in ("select", "estimate"):
                allowed = np.flatnonzero((dense[:, latent] > 0) & (texts["half"] == pool).to_numpy())
                top = allowed[np.argsort(-dense[allowed, latent], kind="stable")][:20]
                examples += [
                    {"feature": f"{dictionary}/{latent}", "dictionary": dictionary, "latent": latent, "rank": rank,
                     "row": int(row), "text_id": texts["text_id"][int(row)],
                     "activation": float(dense[row, latent]), "pool": pool}
                    for rank, row in enumerate(top)
                ]  # fmt: skip
    decoder = rng.normal(size=(n_latents, 16)).astype(np.float32)
    decoder /= np.linalg.norm(decoder, axis=1, keepdims=True)
    return World(
        texts, pl.DataFrame(features), pl.DataFrame(examples),
        dict.fromkeys(dictionaries, codes), dict.fromkeys(dictionaries, decoder), tuple(names),
    )  # fmt: skip


def codes_of(dense: np.ndarray) -> SparseCodes:
    order = np.argsort(-dense, axis=1, kind="stable").astype(np.int32)
    k = max(1, int((dense > 0).sum(axis=1).max()))
    indices = order[:, :k]
    return SparseCodes(indices, np.take_along_axis(dense, indices.astype(np.int64), axis=1), dense.shape[1])


@pytest.fixture(scope="session")
def world() -> World:
    return make_world()


@pytest.fixture(scope="session")
def finished(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder and the facts of one whole run."""
    folder = tmp_path_factory.mktemp("interpret")
    return folder, world.run(folder)
