"""Pooling against a loop over tokens, and token-level shards."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from antar.core.shards import read_shard, shard_name
from antar.core.sites import Site
from antar.models import SideTask, TokenTask, n_shards, site_folder
from antar.models.pooling import pool
from antar.models.tokens import read_tokens

KEEP = [np.array([0, 1, 1, 0], bool), np.array([1], bool), np.array([0, 1, 0, 1, 1, 0], bool)]


def naive(hidden_td: np.ndarray, how: str) -> np.ndarray:
    rows, start = [], 0
    for keep in KEEP:
        kept = [hidden_td[start + place] for place in range(len(keep)) if keep[place]]
        start += len(keep)
        if how == "none":
            rows += kept
        else:
            rows.append({"mean": np.mean(kept, axis=0), "last": kept[-1], "max": np.max(kept, axis=0)}[how])
    return np.stack(rows)


@pytest.mark.parametrize("how", ["mean", "last", "max", "none"])
def test_pooling_equals_a_loop_over_the_kept_tokens(how):
    hidden_td = np.random.default_rng(0).normal(size=(11, 5)).astype(np.float32) - 3  # all-negative columns too
    hidden_td[0] = np.inf  # left out, so never felt
    found = pool(torch.from_numpy(hidden_td), KEEP, how)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), naive(hidden_td, how), rtol=1e-6)


def test_half_precision_is_summed_in_float32():
    values = torch.full((3000, 2), 1.0009765625, dtype=torch.float16)  # 1 + 2^-10
    keep = [np.ones(3000, bool)]
    assert pool(values, keep, "mean")[0, 0].item() == pytest.approx(1.0009765625, rel=1e-6)


@pytest.mark.parametrize("how", ["last", "max", "none"])
def test_shards_of_every_pooling_come_from_the_same_token_vectors(pair, texts, cfg, tmp_path, how):
    def extracted(pooling: str) -> list[dict[str, np.ndarray]]:
        own = cfg.model_copy(update={"pooling": pooling})
        tokens = tmp_path / pooling / "tokens"
        folder = site_folder(tmp_path / pooling, Site("base", 2))
        token_task = TokenTask(texts, pair["base"], own, tokens, "t")
        side_task = SideTask(pair["base"], own, tokens, {2: (folder, "f")})
        for shard in range(n_shards(len(texts), own)):
            token_task.run(shard)
            side_task.run(shard)
        return [read_shard(folder / shard_name(shard)) for shard in range(n_shards(len(texts), own))]

    rows = 0
    for number, (token_level, found) in enumerate(zip(extracted("none"), extracted(how), strict=True)):
        offsets = token_level["offsets"]
        tokens = read_tokens(tmp_path / "none" / "tokens" / shard_name(number))
        assert np.diff(offsets).tolist() == [int(keep.sum()) for keep in tokens.keep]
        assert token_level["acts"].shape == (offsets[-1], 32)
        assert token_level["acts"].dtype == np.float32
        if how == "none":
            continue
        assert "offsets" not in found
        for text, row_d in enumerate(found["acts"]):
            own_td = token_level["acts"][offsets[text] : offsets[text + 1]]
            wanted_d = own_td[-1] if how == "last" else own_td.max(axis=0)
            np.testing.assert_allclose(row_d, wanted_d, rtol=1e-4, atol=1e-5)
            rows += 1
    assert rows == (0 if how == "none" else len(texts))
