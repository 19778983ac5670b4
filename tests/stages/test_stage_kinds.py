"""A study with every kind of dictionary on every side goes through training, codes, interpretation and contrasts."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import yaml

from antar.core.errors import UserError
from antar.core.sites import DictionaryId, Site
from antar.dictionaries import load_dictionary
from antar.models.read import read_site
from antar.pipeline import open_study, run_study
from antar.run import load_run
from antar.stages.artifact import NOT_MADE
from antar.stages.context import Context
from antar.stages.costs import estimate_costs
from antar.stages.train import artifacts as train_artifacts
from antar.stages.train import both_sides, evaluation_parts, read_rows_of, training_rows
from micro import MICRO

KINDS = ["topk", "batchtopk", "crosscoder", "pca", "random"]
SIDES = ["base", "delta", "joint"]


def write_study(folder, **dictionaries):
    study = yaml.safe_load(MICRO)
    study["models"]["organism"]["shams"] = ["a"]
    study["extract"]["layers"] = [1]
    study["contrasts"] = {"facets": [], "permutations": 20}
    study["dictionaries"] |= {"sides": SIDES, "kinds": KINDS, **dictionaries}
    study.pop("truth")
    path = folder / "micro.yaml"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    context = open_study(write_study(folder), folder / "runs")
    run_study(context, until="measure")
    return context


@pytest.fixture(scope="module")
def run(context):
    return load_run(context.folder)


def test_the_dictionaries_are_those_that_the_study_asks_for(context, run):
    own = [f"{side}.layer01{kind}" for side in SIDES for kind in ("", ".batchtopk", ".pca", ".random")]
    null = ["delta:a.layer01", "delta:a.layer01.batchtopk"]
    replicas = [f"{side}.layer01{kind}.seed1" for side in SIDES for kind in ("", ".batchtopk")]
    expected = {*own, "joint.layer01.crosscoder", *null, *replicas, "joint.layer01.crosscoder.seed1"}
    assert {str(one) for one in context.dictionary_ids()} == expected
    assert {str(one) for one in run.dictionary_ids} == expected
    for one in run.dictionary_ids:
        assert run.dictionary(one).kind == run.metrics(one)["kind"] == (one.kind or "topk")
    assert run.metrics("base.layer01.pca")["n_latents"] == 8  # twice k: no width is the study's
    # The study's file changes its mind: what lies there from before is not of the run any more.
    fewer = {"dictionaries": run.study["dictionaries"] | {"kinds": ["topk"], "sides": ["delta"]}}
    left = [one for one in run.dictionary_ids if _asked(run, fewer, one)]
    assert {str(one) for one in left} == {"delta.layer01", "delta.layer01.seed1", "delta:a.layer01"}


def _asked(run, changed, one):
    other = load_run(run.folder)
    other.__dict__["study"] = run.study | changed
    return other._is_asked_for(one)


def test_codes_are_stored_where_a_contrast_needs_them(context, run):
    sides = {}
    for one, side in context.code_sets():
        sides.setdefault(str(one), set()).add(side)
    everywhere, pair = {"base", "chat", "sham:a"}, {"base", "chat"}
    assert sides["base.layer01"] == sides["joint.layer01"] == sides["joint.layer01.batchtopk"] == everywhere
    assert sides["base.layer01.pca"] == sides["joint.layer01.random"] == pair
    assert sides["delta.layer01.random"] == {"delta"} and sides["joint.layer01.crosscoder"] == {"joint"}
    joint_nd = run.activations("joint", 1)
    assert joint_nd.shape == (run.texts.height, 64)
    np.testing.assert_array_equal(joint_nd[:, 32:], run.activations("chat", 1))
    np.testing.assert_array_equal(joint_nd, read_site(run.folder, Site("joint", 1)))
    for name, side in (("joint.layer01.crosscoder", "joint"), ("joint.layer01.batchtopk", "chat")):
        expected, found = run.dictionary(name).encode(run.activations(side, 1)), run.codes(name, side)
        np.testing.assert_array_equal(found.csr().toarray(), expected.csr().toarray())


def test_a_dictionary_of_both_sides_rows_is_trained_and_measured_on_both(context, run):
    one, n = DictionaryId("joint", 1), run.texts.height
    rows_nd = read_rows_of(context, one)
    np.testing.assert_array_equal(rows_nd[:n], run.activations("base", 1))
    np.testing.assert_array_equal(rows_nd[n:], run.activations("chat", 1))
    train, _ = training_rows(run.texts, context.study.dictionaries, None, context.study.seed)
    assert run.manifest(f"dictionaries/{one}").facts["rows_train"] == 2 * len(train)
    dictionary, parts = load_dictionary(run.folder / f"dictionaries/{one}"), run.metrics(one)["parts"]
    heldout = evaluation_parts(run.texts, train)["heldout"]
    x = rows_nd[both_sides(heldout, n)].astype(np.float64)
    again = dictionary.decode(dictionary.encode(x.astype(np.float32)))
    assert parts["heldout"]["rows"] == 2 * len(heldout)
    assert parts["heldout"]["fvu"] == pytest.approx(np.square(x - again).sum() / np.square(x - x.mean(0)).sum())


def test_own_codes_of_both_sides_are_the_stronger(context, run):
    one = DictionaryId("joint", 1)
    base, chat = (run.codes(one, side).csr().toarray() for side in ("base", "chat"))
    own = context.own_codes(one)
    np.testing.assert_array_equal(own.csr().toarray(), np.maximum(base, chat))
    assert ((base > 0).sum(1) < (own.values_nk > 0).sum(1)).any()
    train, _ = training_rows(run.texts, context.study.dictionaries, None, context.study.seed)
    live = run.features.filter(pl.col("dictionary") == str(one)).sort("latent")["live"].to_numpy()
    np.testing.assert_array_equal(live, (np.maximum(base, chat)[train] > 0).any(axis=0))
    assert context.own_codes(DictionaryId("base", 1)).csr().nnz == run.codes("base.layer01", "base").csr().nnz


def test_contrasts_are_measured_where_they_are_defined_and_baselines_are_nulls(run):
    found = run.contrasts.group_by("dictionary").agg(pl.col("contrast").unique(), pl.col("null").unique())
    contrasts = {row["dictionary"]: set(row["contrast"]) for row in found.iter_rows(named=True)}
    nulls = {row["dictionary"]: set(row["null"]) for row in found.iter_rows(named=True)}
    every = {"shift", "culture", "interaction"}
    for name in ("joint.layer01", "joint.layer01.batchtopk", "base.layer01.batchtopk"):
        assert contrasts[name] == every and nulls[name] == {"", "shuffled", "same_checkpoint", "sham:a"}
    assert contrasts["joint.layer01.crosscoder"] == {"culture"}
    assert nulls["joint.layer01.crosscoder"] == {"", "shuffled"}
    for name in ("base.layer01.pca", "joint.layer01.random", "delta.layer01.pca"):
        assert nulls[name] == {name.rsplit(".", 1)[1]}
    real = run.contrasts.filter((pl.col("null") == "") & (pl.col("contrast") == "shift"))
    q = real.filter(pl.col("language") == "pooled")
    assert not q["dictionary"].str.contains("pca|random").any()  # a family of their own: real q values stand
    beside = run.criteria["criteria"][3]["beside"]
    assert beside["live PCA directions"] == 2 * 8 and "features that count on random directions" in beside


def test_labels_coherence_and_stability_are_of_trained_dictionaries(run):
    trained = {str(one) for one in run.dictionary_ids if not one.is_replica and not one.is_baseline}
    of_sham = {name for name in trained if ":" in name}
    assert set(run.labels["feature"].str.split("/").list.first()) == trained - of_sham
    for number in (5, 7):
        rows = run.criteria["criteria"][number - 1]["per_dictionary"]
        assert {row["dictionary"] for row in rows} == trained - of_sham
    assert run.criteria["criteria"][1]["verdict"] != "passes by construction"  # BatchTopK bounds no text


def test_a_crosscoder_comes_with_its_latent_scaling(run):
    name = "joint.layer01.crosscoder"
    table, crosscoder = run.latent_scaling(name), run.dictionary(name)
    np.testing.assert_allclose(table["norm_difference"].to_numpy(), crosscoder.norm_difference_n)
    metrics = run.metrics(name)
    assert metrics["latent_scaling"]["live"] == table.filter(pl.col("fires") > 0).height > 0
    assert set(metrics["parts"]["heldout"]["sides"]) == {"base", "chat"}
    assert "latent_scaling.parquet" in run.manifest(f"dictionaries/{name}").files


def test_what_is_made_is_fresh_and_another_kind_makes_no_other_stale(context, tmp_path):
    assert all(artifact.state().fresh for artifact in train_artifacts(context))
    fewer = open_study(write_study(tmp_path, kinds=["batchtopk", "crosscoder"], sides=["joint"]), tmp_path / "runs")
    same_folder = Context(fewer.study, context.study_folder, context.folder, context.engine)
    states = [artifact.state() for artifact in train_artifacts(same_folder)]
    assert len(states) == 4 and all(state.fresh for state in states)
    more = open_study(write_study(tmp_path, sides=["chat"], kinds=["pca"]), tmp_path / "runs")
    other = Context(more.study, context.study_folder, context.folder, context.engine)
    assert [artifact.state().stale for artifact in train_artifacts(other)] == [NOT_MADE]


def test_costs_know_the_kinds(context, run):
    found = {cost.what: cost for cost in estimate_costs(context)}
    ids = context.dictionary_ids()
    assert found["dictionaries"].amount == str(len(ids))
    folders = [context.folder / "dictionaries" / one.folder for one in ids]
    on_disk = sum((folder / "sae_weights.safetensors").stat().st_size for folder in folders)
    weights = sum(run.dictionary(one).decoder_nd.size * 2 * 4 for one in ids)
    assert weights < on_disk < 2 * weights  # biases and headers, at this size, are a good part
    codes = sum(path.stat().st_size for path in (context.folder / "codes").rglob("*.safetensors"))
    counted = sum(run.texts.height * 4 * 8 for _ in context.code_sets())
    assert 0.8 * counted < codes < 1.5 * counted


def test_sides_and_kinds_are_checked_in_the_study_file(tmp_path):
    for given, message in (
        ({"kinds": ["topk", "topk"]}, "kinds: expected each once"),
        ({"sides": []}, "sides"),
        ({"kinds": ["relu"]}, "topk"),
    ):
        with pytest.raises(UserError, match=message):
            open_study(write_study(tmp_path, **given), tmp_path / "runs")
