"""The vectors of the texts in which coherence is measured a second time: TF-IDF, or a local encoder's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from antar.core.errors import UserError
from antar.core.hashing import sha256_file, sha256_json
from antar.core.progress import progress
from antar.core.seeds import derive_seed
from antar.criteria.config import Embedder
from antar.features.readings import first_readings
from antar.interpret.words import tokens
from antar.stages.context import Context

# Of the weights only safetensors are read (features/embed.py); the rest says what they and the tokenizer are.
_FILES = (".json", ".safetensors", ".txt", ".model", ".spm", ".bpe", ".vocab")


def text_vectors(context: Context, texts: pl.DataFrame) -> np.ndarray | None:
    """float32 `[n_texts, d]`; None where the training texts share no word. A text that is read twice counts once."""
    first, place = np.unique(first_readings(texts), return_inverse=True)
    vectors_nd = _vectors_of(context, texts[first])
    return None if vectors_nd is None else vectors_nd[place]


def _vectors_of(context: Context, texts: pl.DataFrame) -> np.ndarray | None:
    wanted = context.study.criteria.text_space
    if isinstance(wanted, Embedder):
        from antar.features.embed import embed_texts

        with progress("embeddings", texts.height, "texts") as bar:
            return embed_texts(_folder(context, wanted), texts["text"].to_list(), wanted.max_tokens, bar.advance)
    from antar.features.text_space import tfidf_space  # brings scikit-learn

    train = np.flatnonzero((texts["split"] == "train").to_numpy())
    return tfidf_space(texts["text"].to_list(), train, tokens, derive_seed(context.study.seed, "text space"))


def text_space_name(context: Context) -> str:
    wanted = context.study.criteria.text_space
    return f"the encoder {Path(wanted.embedder).name}" if isinstance(wanted, Embedder) else "TF-IDF"


def text_space_inputs(context: Context) -> dict[str, str]:
    """For the fingerprint: what an encoder's folder holds."""
    wanted = context.study.criteria.text_space
    if not isinstance(wanted, Embedder):
        return {}
    folder = _folder(context, wanted)
    files = sorted(path for path in folder.glob("*") if path.suffix in _FILES)
    if not files:
        raise UserError(f"criteria.text_space.embedder: expected an encoder's folder, found none at {folder}")
    return {"embedder": sha256_json({path.name: sha256_file(path) for path in files})}


def _folder(context: Context, wanted: Embedder) -> Path:
    return context.study_folder / Path(wanted.embedder).expanduser()
