"""Token-level shards: a mean a text for whoever wants texts, blocks for whoever wants tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from antar.core.errors import UserError
from antar.core.shards import shard_name, write_shard
from antar.core.sites import Site
from antar.models import TokenRows, TokenSite, read_site, site_folder
from antar.models.token_rows import is_token_level

D = 6


def write_tokens(folder: Path, site: Site, texts: list[np.ndarray], per_shard: int = 7) -> None:
    """`texts`: of each its tokens' rows `[t, D]`."""
    for shard, lo in enumerate(range(0, len(texts), per_shard)):
        its = texts[lo : lo + per_shard]
        offsets = np.concatenate([[0], np.cumsum([len(one) for one in its])]).astype(np.int64)
        tensors = {"acts": np.concatenate(its), "offsets": offsets}
        write_shard(site_folder(folder, site) / shard_name(shard), tensors, "f")


def tokens(seed: int, n_texts: int = 30) -> list[np.ndarray]:
    lengths = np.random.default_rng(0).integers(1, 12, n_texts)
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((t, D)).astype(np.float32) + 5 for t in lengths]


@pytest.fixture
def sides(tmp_path: Path) -> dict[str, list[np.ndarray]]:
    made = {side: tokens(seed) for seed, side in enumerate(("base", "chat", "sham:a"), 1)}
    for side, texts in made.items():
        write_tokens(tmp_path, Site(side, 2), texts)
    return made


def expected(sides: dict[str, list[np.ndarray]], side: str) -> list[np.ndarray]:
    """Each text's tokens at a side, the plain way."""
    if side == "joint":
        return [np.concatenate(both, axis=1) for both in zip(sides["base"], sides["chat"], strict=True)]
    if side.startswith("delta"):
        minuend = sides["chat" if side == "delta" else "sham:a"]
        return [after - before for after, before in zip(minuend, sides["base"], strict=True)]
    return sides[side]


@pytest.mark.parametrize("side", ["base", "chat", "delta", "delta:a", "sham:a", "joint"])
def test_a_text_reads_as_the_mean_of_its_tokens(tmp_path, sides, side):
    found = read_site(tmp_path, Site(side, 2))
    assert found.dtype == np.float32
    means = np.stack([one.astype(np.float64).mean(axis=0) for one in expected(sides, side)])
    np.testing.assert_allclose(found, means, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("side", ["base", "delta", "joint"])
@pytest.mark.parametrize("block_bytes", [1, 4 * D * 9, 2**20])
def test_blocks_are_whole_texts_in_order(tmp_path, sides, side, block_bytes):
    site = TokenSite(tmp_path, Site(side, 2), block_bytes)
    wanted, seen = expected(sides, side), 0
    for block in site.blocks:
        acts_nd = site.read(block)
        assert block.texts.start == seen and len(block.texts) == len(block.offsets) - 1
        assert len(block.texts) == 1 or 4 * D * len(block.rows) <= block_bytes
        for i, text in enumerate(block.texts):
            np.testing.assert_array_equal(acts_nd[block.offsets[i] : block.offsets[i + 1]], wanted[text])
        seen = block.texts.stop
    assert seen == site.n_texts == 30
    assert site.n_rows == sum(len(one) for one in wanted)
    assert site.width == wanted[0].shape[1]


def test_a_site_is_iterated_with_the_text_of_each_row(tmp_path, sides):
    wanted = expected(sides, "delta")
    found = list(TokenSite(tmp_path, Site("delta", 2), 4 * D * 9))
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in found]), np.concatenate(wanted))
    text_of = np.repeat(np.arange(30), [len(one) for one in wanted])
    np.testing.assert_array_equal(np.concatenate([texts for texts, _ in found]), text_of)


def test_one_shard_is_read_at_a_time(tmp_path, sides):
    site = TokenSite(tmp_path, Site("chat", 2), 4 * D * 9)
    blocks = site.blocks_of(1)
    assert [text for block in blocks for text in block.texts] == list(range(7, 14))
    found = np.concatenate([site.read(block) for block in blocks])
    np.testing.assert_array_equal(found, np.concatenate(sides["chat"][7:14]))


@pytest.mark.parametrize("both", [False, True])
def test_rows_of_chosen_texts(tmp_path, sides, both):
    chosen = np.array([0, 1, 5, 6, 7, 20, 29])
    names = ("base", "chat") if both else ("delta",)
    rows = TokenRows([TokenSite(tmp_path, Site(name, 2), 4 * D * 9) for name in names], chosen)
    wanted = [expected(sides, name)[text] for name in names for text in chosen]
    found = np.concatenate([rows.read(piece) for piece in range(len(rows.sizes))])
    np.testing.assert_array_equal(found, np.concatenate(wanted))
    assert [len(rows.read(piece)) for piece in range(len(rows.sizes))] == rows.sizes.tolist()
    assert (rows.sizes > 0).all() and len(rows) == len(found)
    text_of = np.repeat(np.tile(chosen, len(names)), [len(one) for one in wanted])
    some = np.array([0, 3, len(found) // 2, len(found) - 1])
    np.testing.assert_array_equal(rows.texts_of(some), text_of[some])


def test_identity_follows_rows_and_texts(tmp_path, sides):
    def identity(chosen: list[int], side: str = "base") -> str:
        return TokenRows([TokenSite(tmp_path, Site(side, 2))], np.array(chosen)).identity

    first = identity([1, 2, 3])
    assert first == identity([1, 2, 3])
    assert len({first, identity([1, 2, 4]), identity([1, 2, 3], "chat"), identity([1, 2, 3], "delta")}) == 4
    sides["base"][3][0, 0] += 1
    write_tokens(tmp_path, Site("base", 2), sides["base"])
    assert identity([1, 2, 3]) != first


def test_pooled_shards_are_told_from_token_level(tmp_path, sides):
    assert is_token_level(tmp_path, Site("delta", 2)) and not is_token_level(tmp_path, Site("delta", 3))
    write_shard(site_folder(tmp_path, Site("base", 3)) / shard_name(0), {"acts": np.ones((4, D), np.float32)}, "f")
    assert not is_token_level(tmp_path, Site("base", 3))
    with pytest.raises(UserError, match="expected a row for each token and offsets, found a row for each text"):
        TokenSite(tmp_path, Site("base", 3))


def test_what_is_wrong_is_named(tmp_path, sides):
    with pytest.raises(UserError, match=r"delta\.layer04: expected shards, found none"):
        TokenSite(tmp_path, Site("delta", 4))
    sides["chat"][9][1, 2] = np.nan
    write_tokens(tmp_path, Site("chat", 2), sides["chat"])
    row = sum(len(one) for one in sides["chat"][7:9]) + 1
    with pytest.raises(UserError, match=rf"chat\.layer02: .* 1 of 6 .*00001.safetensors, row {row} .*text 9\)"):
        read_site(tmp_path, Site("delta", 2))
    write_tokens(tmp_path, Site("chat", 2), [np.concatenate([one, one]) for one in sides["chat"]])
    with pytest.raises(UserError, match="expected the same texts, tokens and width on chat and base, found others"):
        read_site(tmp_path, Site("delta", 2))


@pytest.mark.parametrize("offsets", [[0, 2, 2, 5], [1, 2, 5], [0, 2, 4], [0, 3, 2, 5], []])
def test_offsets_that_do_not_cut_the_rows_are_refused(tmp_path, offsets):
    tensors = {"acts": np.ones((5, D), np.float32), "offsets": np.array(offsets, np.int64)}
    write_shard(site_folder(tmp_path, Site("base", 2)) / shard_name(0), tensors, "f")
    with pytest.raises(UserError, match="expected offsets from 0 to its 5 rows"):
        TokenSite(tmp_path, Site("base", 2))


def test_a_torn_shard_is_named(tmp_path, sides):
    path = site_folder(tmp_path, Site("base", 2)) / shard_name(2)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"00002\.safetensors: expected a whole shard"):
        read_site(tmp_path, Site("base", 2))
