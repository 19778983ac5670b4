"""The train stage on stored activations: what it does with a row that is not a number."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from antar.core.errors import UserError
from antar.core.shards import shard_is_whole
from antar.core.sites import DictionaryId, Site
from antar.models import read_site
from antar.stages import train

sys.path.insert(0, str(Path(__file__).parent))
from stored import stored_run, write_site


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["base", "chat"])
def test_a_row_that_is_not_finite_is_named_by_shard_and_row(side, bad, tmp_path):
    """The checksum is right, the number is not: its own dictionary and the delta's would learn from it."""
    context = stored_run(tmp_path)
    site = Site(side, 1)
    acts_nd = read_site(tmp_path, site)
    acts_nd[[93, 120], 2:4] = bad  # a training text, the 14th of the third shard; another shard has one too
    write_site(tmp_path, site, acts_nd)
    shard = tmp_path / "activations" / f"{side}.layer01" / "00002.safetensors"
    assert shard_is_whole(shard, "f")
    told = rf"{side}\.layer01: .* NaN or infinity in 2 of 12 columns of .*00002\.safetensors, row 13 \(text 93\)"
    with pytest.raises(UserError, match=told) as error:
        train.make(context)
    assert "\n" not in str(error.value) and str(shard) in str(error.value)
    with pytest.raises(UserError, match=told):
        read_site(tmp_path, Site("delta", 1))
    assert not (tmp_path / "dictionaries" / DictionaryId(side, 1).folder / "manifest.json").exists()


def test_rows_near_the_end_of_fp32_are_numbers(tmp_path):
    stored_run(tmp_path)
    acts_nd = read_site(tmp_path, Site("base", 0))
    acts_nd[7] = 3e38
    write_site(tmp_path, Site("base", 0), acts_nd)
    np.testing.assert_array_equal(read_site(tmp_path, Site("base", 0)), acts_nd)


def test_a_shift_is_measured_within_one_dictionary(tmp_path):
    """PITFALLS: a base and a chat dictionary share no latent index. Codes of two sides are compared in one only."""
    sides = {}
    for dictionary, side in stored_run(tmp_path).code_sets():
        sides.setdefault(dictionary, set()).add(side)
    both = {one for one, encoded in sides.items() if len(encoded) > 1}
    assert both and all("base" in sides[one] for one in both)
    assert sides[DictionaryId("chat", 0)] == {"chat"} and sides[DictionaryId("delta", 0)] == {"delta"}
