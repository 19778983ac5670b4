"""Latent scaling: how much of each latent is in base and in chat, for all latents in one pass (Minder et al. 2025,
arXiv 2504.02922).

A crosscoder can call a latent chat-only although base has it too: base's decoder shrank to nothing ("complete
shrinkage"), or base spells it with other latents ("latent decoupling"). So one asks, for latent j with code f_j and
chat decoder d_j, how much of d_j a side's activations hold when it fires:

    β_j = argmin_β Σ_x ‖β f_j(x) d_j − y(x)‖² = Σ_x f_j ⟨d_j, y⟩ / (‖d_j‖² Σ_x f_j²)

    β^ε, side s:  y = ε^s + f_j d_j^s, the error x^s − x̂^s with the latent's own part on that side put back
    β^r, side s:  y = x̂^s, the reconstruction
    ν^ε = β^{ε,base} / β^{ε,chat}   (1: base has it in full, and the crosscoder missed it there; 0: it is not there)
    ν^r = β^{r,base} / β^{r,chat}   (1: other latents make it up on base)

All come from Σ f y and Σ f², summed batch by batch. Two things differ from the paper. The decoder bias is left out of
x̂: with it every β^r has a part ⟨d_j, b⟩ Σf / Σf², and b on raw activations is the mean of the cloud, which both sides
share. And `mirror_…` are the same ratios with the sides exchanged (base's decoder, chat over base), because with a
chat decoder nothing can be said of a latent that only base has.

The null puts a random direction of the same length in place of d_j in the fit and leaves f and y as they are: what a
direction that means nothing scores. (The authors' released null also puts it in place of the latent's own part on
chat, which makes β^{ε,chat} 1 by construction.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch

from antar.core.errors import UserError
from antar.core.seeds import numpy_rng
from antar.core.sparse import SparseCodes
from antar.dictionaries.crosscoder import SIDES, Crosscoder, norm_difference
from antar.dictionaries.kinds import Dictionary
from antar.dictionaries.loss import ByLatent

BATCH_ROWS = 2048
CHAT_ONLY, BASE_ONLY = 0.9, 0.1
"""Norm differences from which a latent counts as one side's (Minder et al. 2025)."""
PRESENT = 0.5
"""A latent with a ν at or above this is on both sides."""
TARGETS = ("eps", "r")


@dataclass(frozen=True)
class _Batch:
    """f: the codes that are scaled; own, errors, made: side → its codes, x − x̂ and x̂ without the bias."""

    f: SparseCodes
    own: dict[str, SparseCodes]
    errors: dict[str, np.ndarray]
    made: dict[str, np.ndarray]


def latent_scaling(dictionary: Dictionary, base_nd: np.ndarray, chat_nd: np.ndarray, *, seed: int) -> pl.DataFrame:
    """One row a latent: β and ν as above, their null's, the decoders' norm difference and on how many rows it fires.

    `base_nd`, `chat_nd`: raw activations `[n, d]` of the same texts. A crosscoder's f is its joint code. Any other
    dictionary must be one that encodes both sides: f is then its code on chat, and it has no norm difference and no
    mirror. Numbers of a latent that never fires are null.
    """
    if base_nd.shape != chat_nd.shape:
        raise UserError(
            f"latent scaling: expected base and chat activations of one shape, found {list(base_nd.shape)} and "
            f"{list(chat_nd.shape)}; use the same texts of one layer"
        )
    decoder_nd, both = dictionary.decoder_nd, isinstance(dictionary, Crosscoder)
    decoders = {side: decoder_nd[:, dictionary.columns(side)] if isinstance(dictionary, Crosscoder) else decoder_nd
                for side in SIDES}  # fmt: skip
    directions = {"": decoders["chat"], "null_": _random_directions(decoders["chat"], seed)}
    if both:
        directions["mirror_"] = decoders["base"]
    n = dictionary.n_latents
    sums = {(who, target, side): np.zeros(n) for who in directions for target in TARGETS for side in SIDES}
    cross, squares_n, fires_n = {side: np.zeros(n) for side in SIDES}, np.zeros(n), np.zeros(n, dtype=np.int64)
    for batch in _batches(dictionary, base_nd, chat_nd):
        by_latent = _summed_by(batch.f)
        f = batch.f.csr().astype(np.float64)
        squares_n += f.power(2).sum(axis=0)
        fires_n += batch.f.firing_counts()
        for side in SIDES:
            cross[side] += f.multiply(batch.own[side].csr()).sum(axis=0)
            for target, rows_bd in (("eps", batch.errors[side]), ("r", batch.made[side])):
                fy_nd = by_latent(rows_bd)
                for who, direction_nd in directions.items():
                    sums[who, target, side] += np.einsum("nd,nd->n", direction_nd, fy_nd, dtype=np.float64)
    for who, direction_nd in directions.items():
        for side in SIDES:  # the latent's own part is put back
            sums[who, "eps", side] += cross[side] * _dots(direction_nd, decoders[side])
    lengths = {who: _dots(direction_nd, direction_nd) for who, direction_nd in directions.items()}
    columns: dict[str, Any] = {
        "latent": np.arange(n),
        "fires": fires_n,
        "norm_difference": norm_difference(decoders["base"], decoders["chat"]) if both else np.full(n, np.nan),
    }
    for who in ("", "mirror_", "null_"):
        columns |= _ratios(who, sums, squares_n, lengths[who]) if who in directions else _nothing(who, n)
    floats = pl.selectors.float()
    return pl.DataFrame(columns).with_columns(pl.when(floats.is_finite()).then(floats))


def _batches(dictionary: Dictionary, base_nd: np.ndarray, chat_nd: np.ndarray) -> Iterator[_Batch]:
    bias_d = dictionary.tensors()["b_dec"].cpu().numpy()
    for lo in range(0, len(base_nd), BATCH_ROWS):
        x = {"base": base_nd[lo : lo + BATCH_ROWS], "chat": chat_nd[lo : lo + BATCH_ROWS]}
        if isinstance(dictionary, Crosscoder):
            f = dictionary.encode(np.concatenate([x["base"], x["chat"]], axis=1))
            own = dict.fromkeys(SIDES, f)
            wide_bd = dictionary.decode(f)
            made = {side: wide_bd[:, dictionary.columns(side)] for side in SIDES}
            bias = {side: bias_d[dictionary.columns(side)] for side in SIDES}
        else:
            own = {side: dictionary.encode(x[side]) for side in SIDES}
            made = {side: dictionary.decode(own[side]) for side in SIDES}
            f, bias = own["chat"], dict.fromkeys(SIDES, bias_d)
        yield _Batch(
            f,
            own,
            {side: x[side] - made[side] for side in SIDES},
            {side: made[side] - bias[side] for side in SIDES},
        )


def _summed_by(codes: SparseCodes) -> Any:
    """rows `[b, d]` → Σ over texts of f_j × row: float32 `[n_latents, d]`."""
    by_latent = ByLatent.of(torch.from_numpy(codes.indices_nk.astype(np.int64)), codes.n_latents)
    values_bk = torch.from_numpy(codes.values_nk)
    return lambda rows_bd: by_latent.sum(values_bk, torch.from_numpy(np.ascontiguousarray(rows_bd))).numpy()


def _random_directions(decoder_nd: np.ndarray, seed: int) -> np.ndarray:
    """A random direction for each latent, as long as its decoder row."""
    rows_nd = numpy_rng(seed, "latent scaling").standard_normal(decoder_nd.shape)
    rows_nd *= (np.linalg.norm(decoder_nd, axis=1) / np.linalg.norm(rows_nd, axis=1))[:, None]
    return rows_nd.astype(np.float32)


def _dots(a_nd: np.ndarray, b_nd: np.ndarray) -> np.ndarray:
    return np.einsum("nd,nd->n", a_nd, b_nd, dtype=np.float64)


def _ratios(
    who: str, sums: dict[tuple[str, str, str], np.ndarray], squares_n: np.ndarray, length_n: np.ndarray
) -> dict[str, np.ndarray]:
    over, under = ("chat", "base") if who == "mirror_" else ("base", "chat")
    columns: dict[str, np.ndarray] = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        for target in TARGETS:
            beta = {side: sums[who, target, side] / (length_n * squares_n) for side in SIDES}
            columns |= {f"{who}beta_{target}_{side}": beta[side] for side in SIDES}
            columns[f"{who}nu_{target}"] = beta[over] / beta[under]
    return columns


def _nothing(who: str, n: int) -> dict[str, np.ndarray]:
    names = [f"{who}{name}_{target}{side}" for target in TARGETS
             for name, side in (("beta", "_base"), ("beta", "_chat"), ("nu", ""))]  # fmt: skip
    return {name: np.full(n, np.nan) for name in names}


def scaling_summary(table: pl.DataFrame) -> dict[str, Any]:
    """A few numbers of `latent_scaling` for metrics.json.

    chat_only (base_only): live latents that are chat's (base's) by the decoders' norms; confirmed: those of them
    whose ν^ε and ν^r (mirrored for base) are both below `PRESENT`; null_beta_95: the 95% point of |β^{ε,base}| that
    random directions reach, of latents that have a chat decoder to speak of.
    """
    live = table.filter(pl.col("fires") > 0)
    chat = live.filter(pl.col("norm_difference") >= CHAT_ONLY)
    base = live.filter(pl.col("norm_difference") <= BASE_ONLY)
    speaks = live.filter(~(pl.col("norm_difference") <= BASE_ONLY).fill_null(value=False))

    def absent(who: str) -> pl.Expr:
        return (pl.col(f"{who}nu_eps") < PRESENT) & (pl.col(f"{who}nu_r") < PRESENT)

    return {
        "live": live.height,
        "chat_only": chat.height,
        "chat_only_confirmed": chat.filter(absent("")).height,
        "base_only": base.height,
        "base_only_confirmed": base.filter(absent("mirror_")).height,
        "median_norm_difference": live["norm_difference"].median(),
        "median_nu_eps": live["nu_eps"].median(),
        "median_nu_r": live["nu_r"].median(),
        "null_beta_95": speaks["null_beta_eps_base"].abs().quantile(0.95, "linear"),
    }
