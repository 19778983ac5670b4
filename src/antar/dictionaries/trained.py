"""What a training gives back, and the dictionaries that are made without one: baselines, and of rows that are one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from antar.dictionaries.baselines import neuron_dictionary, pca_dictionary, random_dictionary
from antar.dictionaries.config import DictionaryConfig
from antar.dictionaries.data import Scaling
from antar.dictionaries.geometry import spectrum
from antar.dictionaries.kinds import Dictionary, Learner
from antar.dictionaries.weights import initial_weights

HISTORY = pl.Schema(
    {
        "epoch": pl.Int64,
        "step": pl.Int64,
        "train_mse": pl.Float64,
        "val_mse": pl.Float64,
        "val_fvu": pl.Float64,
        "live_share": pl.Float64,
        "dead": pl.Int64,
        "resets": pl.Int64,
        "best": pl.Boolean,
    }
)


@dataclass(frozen=True)
class TrainedDictionary:
    """`history` has one row a check (errors on the raw scale; a crosscoder's are normalised errors times the mean
    square of both sides, which is the raw scale where the sides have one); `facts` is JSON. Neither holds times of
    day. What was not trained has no history."""

    dictionary: Dictionary
    history: pl.DataFrame
    facts: dict[str, Any]


def common_facts(
    train_nd: np.ndarray | Tensor,
    val_nd: np.ndarray | Tensor,
    scaling: Scaling,
    cfg: DictionaryConfig,
    seed: int,
    dictionary: Dictionary,
    device: str = "cpu",
) -> dict[str, Any]:
    return {
        "kind": dictionary.kind,
        "zero_variance": scaling.scale == 0,
        "rows_train": len(train_nd),
        "rows_val": len(val_nd),
        "d_model": train_nd.shape[1],
        "n_latents": dictionary.n_latents,
        "k": dictionary.k,
        "seed": seed,
        "scale": scaling.scale,
        "centre_norm": float(np.linalg.norm(scaling.centre_d.astype(np.float64))),
        "threads": cfg.threads or torch.get_num_threads(),
        "device": device,
    }


@dataclass(frozen=True)
class Split:
    """Training and validation rows that need no training loop."""

    train_nd: np.ndarray
    val_nd: np.ndarray
    scaling: Scaling
    cfg: DictionaryConfig
    seed: int

    def constant(self, learner: Learner) -> TrainedDictionary:
        """For a split without variance, such as the delta of a checkpoint and itself: nothing ever fires."""
        weights = learner.start(self.train_nd.shape[1], lambda width: initial_weights(self.cfg, width, self.seed))
        weights.encoder_nd.zero_()
        return self._untrained(learner.fold(weights, Scaling(self.scaling.centre_d, 1.0), self.cfg.k, 0.0), 0.0)

    def baseline(self, kind: str) -> TrainedDictionary:
        """PCA, random directions or raw neurons, fitted to the training rows."""
        mean_d = self.train_nd.mean(axis=0, dtype=np.float64)
        if kind == "pca":
            dictionary = pca_dictionary(spectrum(self.train_nd), self.cfg.k)
        elif kind == "neurons":
            dictionary = neuron_dictionary(mean_d, self.cfg.k)
        else:
            rows = np.arange(len(self.train_nd))
            dictionary = random_dictionary(self.train_nd, rows, mean_d, self.cfg.n_latents, self.cfg.k, self.seed)
        fired_n = dictionary.encode(self.train_nd).firing_counts() > 0
        return self._untrained(dictionary, float(fired_n.mean()))

    def _untrained(self, dictionary: Dictionary, live_share: float) -> TrainedDictionary:
        common = common_facts(self.train_nd, self.val_nd, self.scaling, self.cfg, self.seed, dictionary)
        facts = {**common, "steps": 0, "epochs": 0, "live_share": live_share}
        return TrainedDictionary(dictionary, pl.DataFrame(schema=HISTORY), facts)
