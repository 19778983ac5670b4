"""Base and chat dictionaries of one layer, matched; and beside it base's with another seed of itself."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from antar.core.progress import progress
from antar.core.seeds import derive_seed
from antar.core.sites import DictionaryId
from antar.dictionaries import load_dictionary
from antar.features.codes import encode_site, some_rows
from antar.features.counterparts import (
    OTHER_SEED,
    SCHEMA,
    Blocks,
    LiveLatents,
    Share,
    counterparts_frame,
    find_counterparts,
    sample_documents,
    share_of,
)
from antar.features.examples import contrast_rows
from antar.models import read_site
from antar.stages.context import Context
from antar.stages.token_level import codes_of_texts, is_token_level
from antar.stages.train import fires_in_training, rows_in_training, training_rows

MOST_TEXTS = 8192


def compared(context: Context) -> list[tuple[DictionaryId, DictionaryId, str]]:
    """(base's, its counterpart's, null): base against chat wherever both are trained, then base, with or without a
    chat dictionary, against each replica of it with another seed."""
    ids = context.dictionary_ids()
    found: list[tuple[DictionaryId, DictionaryId, str]] = []
    for one in ids:
        if one.trained_on != "base" or one.is_replica or one.is_baseline:
            continue
        chat = DictionaryId("chat", one.layer, one.kind)
        if chat in ids:
            found.append((one, chat, ""))
        found += [(one, other, OTHER_SEED) for other in ids if other.of == one and other.seed is not None]
    return found


def measure_counterparts(
    context: Context, texts: pl.DataFrame, live: Mapping[DictionaryId, np.ndarray]
) -> tuple[pl.DataFrame, list[Share]]:
    """features/matches.parquet and its shares. Codes are of texts that no dictionary was trained on, at most
    `MOST_TEXTS` of them, whole documents drawn by the study's seed.

    live: bool `[n_latents]` of every dictionary that is no replica.
    """
    seed = context.study.seed
    documents = texts["document"].to_numpy()
    rows = np.flatnonzero(contrast_rows(texts))
    rows = sample_documents(documents, rows, MOST_TEXTS, derive_seed(seed, "counterparts"))
    strata = (texts["language"] + " " + texts["group"]).to_numpy()
    blocks = Blocks(documents[rows], strata[rows])
    frames, shares = [pl.DataFrame(schema=SCHEMA)], list[Share]()
    pairs = compared(context)
    with progress("counterparts", len(pairs), "pairs of dictionaries") as bar:
        for one, other, null in pairs:
            a, b = (_live_latents(context, which, texts, rows, live) for which in (one, other))
            found = find_counterparts(a, b, blocks, derive_seed(seed, "counterparts", str(one), str(other)))
            frames.append(counterparts_frame(one.layer, null, a, b, found))
            shares.append(share_of(one.layer, null, a, b, found))
            bar.advance()
    return pl.concat(frames), shares


def _live_latents(
    context: Context,
    one: DictionaryId,
    texts: pl.DataFrame,
    rows: np.ndarray,
    live: Mapping[DictionaryId, np.ndarray],
) -> LiveLatents:
    dictionary = load_dictionary(context.folder / "dictionaries" / one.folder)
    if not one.is_replica:
        codes = some_rows(context.stored_codes(one, one.trained_on), rows)
        return LiveLatents.of(str(one), dictionary.decoder_nd, codes, live[one])
    # Codes of replicas are not stored: they are needed here alone.
    train, _ = training_rows(texts, context.study.dictionaries, one.fold, context.study.seed)
    fires = fires_in_training(dictionary, rows_in_training(context, one, train))
    if is_token_level(context):
        codes = codes_of_texts(context, dictionary, one.site, rows)
    else:
        codes = encode_site(dictionary, read_site(context.folder, one.site)[rows])
    return LiveLatents.of(str(one), dictionary.decoder_nd, codes, fires)
