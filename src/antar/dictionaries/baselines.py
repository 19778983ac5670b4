"""The dictionaries that a trained one has to beat, in the form of TopK, so that everything takes them alike.

PCA is 2k latents, + and − each of the k leading components of the training rows: of each pair exactly one is
positive, so TopK with k keeps all k projections and the reconstruction is that of PCA. Its basis is one for all
texts, a dictionary chooses one for each. Random is unit directions with the one scalar gain that suits the training
rows best; the gain g is folded into the encoder, z = TopK(ReLU(g W (x − x̄))). Neurons is the space as it comes: 2d
latents, + and − of each centred coordinate, so that a text keeps the k coordinates farthest from their means.
"""

from __future__ import annotations

import numpy as np
import torch

from antar.core.seeds import torch_rng
from antar.dictionaries.geometry import Spectrum
from antar.dictionaries.topk import TopK
from antar.dictionaries.weights import Weights, unit_rows_

CHUNK_ROWS = 2048


def pca_dictionary(found: Spectrum, k: int) -> TopK:
    """`found` is of the training rows. Rows of d columns have d components, so k is at most d."""
    k = min(k, found.vectors_dd.shape[1])
    components_kd = torch.from_numpy(np.ascontiguousarray(found.vectors_dd[:, :k].T, dtype=np.float32))
    rows_nd = unit_rows_(torch.cat([components_kd, -components_kd]))
    bias_d = torch.from_numpy(found.mean_d.astype(np.float32))
    return TopK(Weights(rows_nd.clone(), torch.zeros(2 * k), rows_nd, bias_d), k, "pca")


def neuron_dictionary(mean_d: np.ndarray, k: int) -> TopK:
    """`mean_d` is the mean of the training rows. k is at most d, as of each pair only one is positive."""
    d, k = len(mean_d), min(k, len(mean_d))
    identity_dd = torch.eye(d)
    rows_nd = torch.cat([identity_dd, -identity_dd])
    bias_d = torch.from_numpy(mean_d.astype(np.float32))
    return TopK(Weights(rows_nd.clone(), torch.zeros(2 * d), rows_nd, bias_d), k, "neurons")


def random_dictionary(
    acts_nd: np.ndarray, train: np.ndarray, mean_d: np.ndarray, n_latents: int, k: int, seed: int
) -> TopK:
    """`mean_d` is the mean of the rows `train` of `acts_nd`, on which the gain is found."""
    generator = torch_rng(seed, "random dictionary", n_latents, acts_nd.shape[1])
    rows_nd = unit_rows_(torch.randn(n_latents, acts_nd.shape[1], generator=generator))
    bias_d = torch.from_numpy(mean_d.astype(np.float32))
    plain = TopK(Weights(rows_nd, torch.zeros(n_latents), rows_nd, bias_d), k, "random")
    # Least squares: the gain g that minimises Σ‖(x − mean) − g·r‖² is Σ⟨x − mean, r⟩ / Σ‖r‖².
    agreement = energy = 0.0
    for lo in range(0, len(train), CHUNK_ROWS):
        x_bd = acts_nd[train[lo : lo + CHUNK_ROWS]].astype(np.float32)
        r_bd = plain.decode(plain.encode(x_bd)).astype(np.float64) - bias_d.numpy()
        agreement += float(((x_bd - bias_d.numpy()) * r_bd).sum())
        energy += float(np.square(r_bd).sum())
    gain = agreement / energy if energy > 0 else 0.0
    return TopK(Weights(gain * rows_nd, torch.zeros(n_latents), rows_nd, bias_d), k, "random")
