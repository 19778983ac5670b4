"""Counterparts in a run: which dictionaries are compared, on which texts, and what is written."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from antar.core.sites import DictionaryId, Site
from antar.dictionaries import load_dictionary
from antar.features.codes import encode_site
from antar.features.examples import contrast_rows
from antar.models import read_site
from antar.run import load_run
from antar.stages import counterparts, train
from antar.stages.counterparts import compared, measure_counterparts
from antar.stages.replicas import wanted_replicas

sys.path.insert(0, str(Path(__file__).parent))
from stored import STUDY, stored_run


def test_base_is_compared_with_chat_and_with_every_other_seed_of_itself(tmp_path):
    recipe = yaml.safe_load(STUDY)["dictionaries"]
    pairs = lambda **more: [  # noqa: E731
        (str(a), str(b), null) for a, b, null in compared(stored_run(tmp_path, dictionaries=recipe | more))
    ]
    plain = [(f"base.layer0{i}", f"chat.layer0{i}", "") for i in (0, 1)]
    assert pairs() == plain
    assert pairs(folds=3) == plain, "a fold is another set of texts, no other seed"
    seeds = [("base.layer00", f"base.layer00.seed{seed}", "other_seed") for seed in (1, 2)]
    assert pairs(seeds=2)[:3] == [plain[0], *seeds]
    assert pairs(sides=["base", "delta"]) == [], "a delta's features are of something else"
    assert pairs(sides=["base"], seeds=2)[:2] == seeds, "the null stands without a chat dictionary too"
    kinds = pairs(kinds=["batchtopk", "crosscoder", "pca", "random"])
    assert [a for a, _, _ in kinds] == ["base.layer00.batchtopk", "base.layer01.batchtopk"]


@pytest.fixture
def context(tmp_path, monkeypatch):
    """Two layers, trained, with one replica; codes are those that the features stage would store."""
    context = stored_run(tmp_path)
    said = wanted_replicas(context.study, {}, seeds=1)
    context = replace(context, study=said.applied(context.study), replicas_as_said=said)
    train.make(context)

    def codes(self, one, side):
        dictionary = load_dictionary(self.folder / "dictionaries" / one.folder)
        return encode_site(dictionary, read_site(self.folder, Site(side, one.layer)))

    for reader in ("codes", "stored_codes"):
        monkeypatch.setattr(type(context), reader, codes)
    return context


def test_every_live_latent_of_base_has_a_row_in_each_comparison(context):
    texts = context.texts()
    train_rows = np.flatnonzero((texts["split"] == "train").to_numpy())
    live = {
        one: context.codes(one, one.trained_on).rows(train_rows).firing_counts() > 0
        for one in context.dictionary_ids()
        if one.trained_on in ("base", "chat") and not one.is_replica
    }
    frame, shares = measure_counterparts(context, texts, live)
    assert [(share.layer, share.null) for share in shares] == [(0, ""), (0, "other_seed"), (1, ""), (1, "other_seed")]
    for share in shares:
        rows = frame.filter((frame["layer"] == share.layer) & (frame["null"] == share.null))
        one = DictionaryId("base", share.layer)
        assert rows["latent_a"].to_list() == np.flatnonzero(live[one]).tolist()
        assert share.live_a == int(live[one].sum()) and share.matched == rows["matched"].sum()
        assert share.texts == contrast_rows(texts).sum()
        assert rows.filter("matched")["latent_b"].is_unique().all()
    again, _ = measure_counterparts(context, texts, live)
    assert again.equals(frame)


def test_a_dictionary_and_itself_are_matched_whole(context, monkeypatch):
    """Base's own dictionary in the place of chat's: what fires on the compared texts is found under its own index."""
    texts = context.texts()
    same = DictionaryId("base", 1)
    monkeypatch.setattr(counterparts, "compared", lambda _: [(same, same, "")])
    live = {same: np.ones(24, bool)}
    frame, (share,) = measure_counterparts(context, texts, live)
    fires = context.codes(same, "base").rows(np.flatnonzero(contrast_rows(texts))).firing_counts() > 0
    matched = frame["matched"].to_numpy()
    assert not matched[~fires].any() and matched[fires].all()
    assert frame.filter("matched")["latent_b"].to_list() == frame.filter("matched")["latent_a"].to_list()
    assert share.cosine == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_a_finished_run_has_them_and_says_so(finished):
    run = load_run(finished)
    assert {share.null for share in run.counterparts} == {"", "other_seed"}
    own = [f"base.layer{layer:02d}" for layer in run.features["layer"].unique()]
    live = run.features.filter(run.features["dictionary"].is_in(own) & run.features["live"]).height
    assert (
        run.matches.filter(run.matches["null"] == "").height
        == live
        == sum(share.live_a for share in run.counterparts if share.null == "")
    )
    headline = json.loads((finished / "criteria.json").read_bytes())["headline"]
    assert sum("features have a counterpart in chat's dictionary" in line for line in headline) == 1
    coherence = run.criteria["criteria"][4]
    both = [coherence["beside"][f"coherence by {name}"] for name in ("activations", "texts")]
    assert coherence["value"] == min(both)
    assert "TF-IDF" in coherence["sentence"]
