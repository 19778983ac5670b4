"""Which features of one dictionary have a counterpart in another that was trained apart from it.

Two dictionaries trained apart share no latent index, and even two seeds of one recipe on one site share only a part
of their features (arXiv 2501.16615). So latents are paired by what can be compared: the direction that each writes,
and on which texts each fires. A pair counts only when both stand above what pairs of nothing give; what does not is
left unmatched, and the share that is matched is read beside that of another seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
from scipy import sparse

from antar.core.errors import UserError
from antar.core.seeds import derive_seed, numpy_rng
from antar.core.sites import DictionaryId
from antar.core.sparse import SparseCodes
from antar.features.matching import best_pairs, match_random, unit

OTHER_SEED = "other_seed"
PERCENTILE = 99.0
CHUNK = 512
SCHEMA = {
    "layer": pl.Int64, "null": pl.String, "dictionary_a": pl.String, "latent_a": pl.Int64,
    "dictionary_b": pl.String, "latent_b": pl.Int64, "cosine": pl.Float64, "correlation": pl.Float64,
    "matched": pl.Boolean,
}  # fmt: skip


@dataclass(frozen=True)
class LiveLatents:
    """The latents of a dictionary that live.

    name:       the dictionary's id
    latents:    int64 `[n]`, their indices, ascending
    decoder_nd: `[n, d_model]`
    codes_tn:   sparse float32 `[n_texts, n]`, of texts that are the same for both sides of a comparison
    """

    name: str
    latents: np.ndarray
    decoder_nd: np.ndarray
    codes_tn: sparse.csr_array

    @classmethod
    def of(cls, name: str, decoder_nd: np.ndarray, codes: SparseCodes, live: np.ndarray) -> LiveLatents:
        """From the whole decoder and the codes of the texts; `live` is bool `[n_latents]`."""
        latents = np.flatnonzero(live)
        return cls(name, latents, decoder_nd[latents], codes.csc()[:, latents].tocsr())

    @property
    def texts(self) -> int:
        return _height(self.codes_tn)

    def of_texts(self, rows: np.ndarray) -> LiveLatents:
        return LiveLatents(self.name, self.latents, self.decoder_nd, self.codes_tn[rows])


@dataclass(frozen=True)
class Counterparts:
    """For each live latent of a, in order, its counterpart in b; −1 and NaN where it has none.

    place:           int64 `[n_a]`, into b's live latents
    cosine, correlation: float64 `[n_a]`
    cosine_bar, correlation_bar: what both must exceed
    texts: over which codes were compared (see `Blocks.exchangeable`)
    """

    place: np.ndarray
    cosine: np.ndarray
    correlation: np.ndarray
    cosine_bar: float
    correlation_bar: float
    texts: int

    @property
    def matched(self) -> np.ndarray:
        """bool `[n_a]`"""
        return self.place >= 0


@dataclass(frozen=True)
class Share:
    """How many of a's live features have a counterpart in b. null: "" for base and chat, or `other_seed`; cosine and
    correlation: means over the matched pairs, None where there is none."""

    layer: int
    null: str
    dictionary_a: str
    dictionary_b: str
    live_a: int
    live_b: int
    matched: int
    cosine: float | None
    correlation: float | None
    cosine_bar: float | None
    correlation_bar: float | None
    texts: int


def find_counterparts(a: LiveLatents, b: LiveLatents, blocks: Blocks, seed: int = 0) -> Counterparts:
    """The one-to-one pairs with the largest sum of ½ (cosine + correlation), less those that chance explains.

    Cosine is of the decoder rows, correlation is Pearson's of the two latents' codes over the same texts, within
    the strata of `blocks`; Hungarian method (Kuhn 1955). A pair is kept where its cosine is above the 99th
    percentile of the matched pairs of a with as many random directions as b has, and its correlation above that of
    the matched pairs of a's codes with b's, the documents of b permuted within `blocks`; texts that are not
    `exchangeable` there count nowhere. Both nulls are matched by
    the one score that they are about, which makes their pairs better than a mean of two would, and the bars higher.

    Dense float32 `[n_a, n_b]` a few times, and float64 inside scipy. Measured on one core of a busy machine: 1,024
    latents a side and 4,096 texts of 64 latents, 1 s; 4,096 latents, 4,096 texts of 128, 22 s and 0.9 GB; 8,192
    latents, 8,192 texts of 256, 223 s and 2.8 GB.
    """
    if not a.texts == b.texts == len(blocks):
        raise UserError(
            f"counterparts: expected codes of the same texts, found {a.texts} of {a.name}, {b.texts} of "
            f"{b.name} and {len(blocks)} documents; encode both on the same texts"
        )
    if a.decoder_nd.shape[1] != b.decoder_nd.shape[1]:
        raise UserError(
            f"counterparts: expected decoders of one width, found {a.decoder_nd.shape[1]} and "
            f"{b.decoder_nd.shape[1]}; compare dictionaries of one layer"
        )
    compared = np.flatnonzero(blocks.exchangeable)
    a, b, blocks = a.of_texts(compared), b.of_texts(compared), blocks.of_texts(compared)
    cosine_bar, correlation_bar = _bars(a, b, blocks, seed)
    cosines = unit(a.decoder_nd) @ unit(b.decoder_nd).T
    correlated = correlations(a.codes_tn, b.codes_tn, blocks.stratum)
    # Twice the mean has the same best pairs.
    rows, columns = best_pairs(cosines + correlated)
    cosine, correlation = cosines[rows, columns], correlated[rows, columns]
    kept = (cosine > cosine_bar) & (correlation > correlation_bar)
    place = np.full(len(a.latents), -1, dtype=np.int64)
    place[rows[kept]] = columns[kept]
    found = Counterparts(place, _empty(a), _empty(a), cosine_bar, correlation_bar, len(blocks))
    found.cosine[rows[kept]], found.correlation[rows[kept]] = cosine[kept], correlation[kept]
    return found


def _empty(a: LiveLatents) -> np.ndarray:
    return np.full(len(a.latents), np.nan)


def _bars(a: LiveLatents, b: LiveLatents, blocks: Blocks, seed: int) -> tuple[float, float]:
    """The 99th percentiles of the two nulls; infinite where there is no pair."""
    if not len(a.latents) or not len(b.latents) or not len(blocks):
        return np.inf, np.inf
    random = match_random(a.decoder_nd, len(b.latents), derive_seed(seed, "counterparts")).cosine
    strangers = correlations(a.codes_tn, b.codes_tn[blocks.permuted(seed)], blocks.stratum)
    rows, columns = best_pairs(strangers)
    null = strangers[rows, columns]
    return float(np.percentile(random, PERCENTILE)), float(np.percentile(null, PERCENTILE))


def correlations(a_tn: sparse.csr_array, b_tm: sparse.csr_array, stratum: np.ndarray | None = None) -> np.ndarray:
    """Pearson's correlation of every column of `a_tn` with every column of `b_tm`, zeros counted: float32 `[n, m]`.

    stratum: `[n_texts]`; each column is taken less its mean in each stratum, so that what a stratum alone explains is
             no correlation. Without it there is one.
    0 where a column does not vary. Sums are float64, of `CHUNK` columns at a time: only the result is dense.
    """
    n_texts = _height(a_tn)
    _, of_text = np.unique(np.zeros(n_texts) if stratum is None else stratum, return_inverse=True)
    a, b = a_tn.astype(np.float64).tocsc(), b_tm.astype(np.float64).tocsr()
    (means_a, scale_a), (means_b, scale_b) = _moments(a, of_text), _moments(b, of_text)
    shares = np.bincount(of_text, minlength=len(means_a))[:, None] / max(n_texts, 1)
    found = np.empty((len(scale_a), len(scale_b)), dtype=np.float32)
    for lo in range(0, len(scale_a), CHUNK):
        part = slice(lo, lo + CHUNK)
        together = (a[:, part].T.tocsr() @ b).toarray() / max(n_texts, 1)
        together -= means_a[:, part].T @ (shares * means_b)
        found[part] = together * scale_a[part, None] * scale_b
    return np.clip(found, -1, 1, out=found)


def _height(matrix: Any) -> int:
    return int(matrix.shape[0])


def _moments(x_tn: Any, of_text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means in each stratum `[s, n]`; one over the standard deviation about them `[n]`, 0 where nothing varies."""
    n_texts = max(_height(x_tn), 1)
    sizes = np.bincount(of_text, minlength=1)
    one_hot = sparse.csr_array(
        (np.ones(len(of_text)), (of_text, np.arange(len(of_text)))), (len(sizes), len(of_text))
    )
    means = (one_hot @ x_tn).toarray() / np.maximum(sizes, 1)[:, None]
    square = np.asarray(x_tn.multiply(x_tn).sum(axis=0)).ravel() / n_texts
    variance = square - (sizes[:, None] * means**2).sum(axis=0) / n_texts
    varies = variance > 1e-12 * square  # below that it is what rounding leaves of a constant
    return means, np.where(varies, 1 / np.sqrt(np.where(varies, variance, 1)), 0)


@dataclass(frozen=True)
class Blocks:
    """What texts belong to: documents, which are permuted whole, and strata (a language and a group), within which
    they are and within which codes are correlated. Two latents that only tell Hindi from English, or culture from
    controls, are no pair for that, and do not raise the bar for all others.

    Under the null no text may meet a text of its own document: what stays in its place, or meets its neighbour, is
    the truth that the bar is to stand above. A stratum in which one document has more than half of the texts (most
    often, all of them) has no such order; its texts are left out, of the null and of what is held against it.

    document, stratum: strings `[n_texts]`
    """

    document: np.ndarray
    stratum: np.ndarray

    def __len__(self) -> int:
        return len(self.document)

    def of_texts(self, rows: np.ndarray) -> Blocks:
        return Blocks(self.document[rows], self.stratum[rows])

    @property
    def exchangeable(self) -> np.ndarray:
        """bool `[n_texts]`: of a stratum in which each document has at most half of the texts."""
        found = np.zeros(len(self), dtype=bool)
        for rows, of_row in self._strata():
            found[rows] = 2 * np.bincount(of_row).max() <= len(rows)
        return found

    def permuted(self, seed: int) -> np.ndarray:
        """int64 `[n_texts]`: for each text the one of its stratum, and of another document, that takes its place.

        The documents are laid in a circle in random order, each with its texts together and in order, and the circle
        is turned by no less than the longest document. Raises ValueError where texts are not `exchangeable`.
        """
        rng = numpy_rng(seed, "permuted documents")
        order = np.empty(len(self), dtype=np.int64)
        for rows, of_row in self._strata():
            sizes = np.bincount(of_row)
            longest = int(sizes.max())
            if 2 * longest > len(rows):
                raise ValueError(f"documents: expected at most half of {len(rows)} texts in one, found {longest}")
            circle = rows[np.argsort(rng.permutation(len(sizes))[of_row], kind="stable")]
            order[circle] = np.roll(circle, rng.integers(longest, len(rows) - longest, endpoint=True))
        return order

    def _strata(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(rows, the number of each row's document) of every stratum."""
        for stratum in np.unique(self.stratum):
            rows = np.flatnonzero(self.stratum == stratum)
            yield rows, np.unique(self.document[rows], return_inverse=True)[1]


def sample_documents(documents: np.ndarray, rows: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Those of `rows` (ascending) that belong to some documents, drawn whole until `most` texts would be exceeded."""
    if len(rows) <= most:
        return rows
    names, of_row, sizes = np.unique(documents[rows], return_inverse=True, return_counts=True)
    drawn = numpy_rng(seed, "sampled documents").permutation(len(names))
    taken = np.zeros(len(names), dtype=bool)
    taken[drawn[np.cumsum(sizes[drawn]) <= most]] = True
    return rows[taken[of_row]]


def counterparts_frame(layer: int, null: str, a: LiveLatents, b: LiveLatents, found: Counterparts) -> pl.DataFrame:
    """A row for each live latent of a; what is unmatched has nulls."""
    matched = found.matched
    latent_b = np.where(matched, b.latents[found.place] if len(b.latents) else -1, -1)
    frame = pl.DataFrame(
        {
            "layer": np.full(len(matched), layer),
            "null": [null] * len(matched),
            "dictionary_a": [a.name] * len(matched),
            "latent_a": a.latents,
            "dictionary_b": [b.name] * len(matched),
            "latent_b": latent_b,
            "cosine": found.cosine,
            "correlation": found.correlation,
            "matched": matched,
        },
        schema=SCHEMA,
    )
    return frame.with_columns(
        pl.when("matched").then(pl.col("latent_b", "cosine", "correlation"))  # NaN and −1 become null
    )


def share_of(layer: int, null: str, a: LiveLatents, b: LiveLatents, found: Counterparts) -> Share:
    matched = found.matched
    any_matched = bool(matched.any())
    return Share(
        layer,
        null,
        a.name,
        b.name,
        len(a.latents),
        len(b.latents),
        int(matched.sum()),
        float(found.cosine[matched].mean()) if any_matched else None,
        float(found.correlation[matched].mean()) if any_matched else None,
        found.cosine_bar if np.isfinite(found.cosine_bar) else None,
        found.correlation_bar if np.isfinite(found.correlation_bar) else None,
        found.texts,
    )


def as_records(shares: Sequence[Share]) -> list[dict[str, Any]]:
    """For features/matches.json."""
    return [asdict(share) for share in shares]


@dataclass(frozen=True)
class Pooled:
    """Shares of all layers and kinds with one `null`, added up; not those that no text could decide."""

    live: int
    matched: int
    cosine: float | None

    @property
    def share(self) -> float | None:
        return self.matched / self.live if self.live else None


def pooled(shares: Sequence[Share], null: str = "") -> Pooled:
    chosen = [share for share in shares if share.null == null and share.texts]
    matched = sum(share.matched for share in chosen)
    total = sum(share.matched * share.cosine for share in chosen if share.cosine is not None)
    return Pooled(sum(share.live_a for share in chosen), matched, total / matched if matched else None)


def counterparts_sentence(shares: Sequence[Share], base: str = "base", chat: str = "chat") -> str | None:
    """What a reader needs of it, other seeds on average and by the least and the most; None where nothing was
    compared."""
    real, null = pooled(shares), pooled(shares, OTHER_SEED)
    apart = [one for one in (pooled(its, OTHER_SEED).share for its in _by_seed(shares)) if one is not None]
    between = f" on average, from {min(apart):.0%} to {max(apart):.0%}" if len(apart) > 1 else ""
    if real.share is None:
        if null.share is None:
            return None
        which = f"{len(apart)} other seeds" if between else "another seed"
        return (
            f"{null.share:.0%}{between and f'{between},'} of {base}'s features have a counterpart in {which} of "
            f"{base}'s own dictionary{_mean(null)}."
        )
    line = f"{real.share:.0%} of {base}'s features have a counterpart in {chat}'s dictionary{_mean(real)}"
    if null.share is None:
        return f"{line}; how many another seed of {base}'s own dictionary would have was not measured."
    who = f"{len(apart)} other seeds of {base}'s own give" if between else f"another seed of {base}'s own gives"
    return f"{line}; {who} {null.share:.0%}{between}{_mean(null)}."


def _by_seed(shares: Sequence[Share]) -> list[list[Share]]:
    found: dict[int | None, list[Share]] = {}
    for share in shares:
        if share.null == OTHER_SEED:
            found.setdefault(DictionaryId.parse(share.dictionary_b).seed, []).append(share)
    return list(found.values())


def _mean(found: Pooled) -> str:
    return f" (mean cosine {found.cosine:.2f})" if found.cosine is not None else ""
