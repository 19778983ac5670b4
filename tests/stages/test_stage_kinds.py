"""A study with every kind of dictionary on every side goes through training, codes, interpretation and contrasts."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import yaml
from markupsafe import Markup

from antar.core.errors import UserError
from antar.core.manifest import read_manifest
from antar.core.sites import DictionaryId, Site
from antar.dictionaries import load_dictionary
from antar.features.meandiff import culture_designs, mean_difference
from antar.models.read import read_site
from antar.pipeline import open_study, run_study
from antar.report.figures import Drawn, draw_plot
from antar.report.page import SECTIONS, head_of, render_page, sections_of
from antar.run import load_run
from antar.stages.artifact import NOT_MADE
from antar.stages.context import Context
from antar.stages.costs import estimate_costs
from antar.stages.extract import artifacts as extract_artifacts
from antar.stages.train import artifacts as train_artifacts
from antar.stages.train import both_sides, evaluation_parts, read_rows_of, training_rows
from micro import MICRO
from walk import check_page

KINDS = ["topk", "batchtopk", "crosscoder", "pca", "random"]
SIDES = ["base", "delta", "joint"]


def write_study(folder, weights=False, **dictionaries):
    study = yaml.safe_load(MICRO)
    study["models"]["organism"]["shams"] = ["a"]
    study["extract"]["layers"] = [1]
    study["contrasts"] = {"facets": [], "permutations": 20}
    study["models"]["random_weights"] = weights
    study["dictionaries"] |= {"sides": SIDES, "kinds": KINDS, "baselines": ["pca", "neurons"], **dictionaries}
    study.pop("truth")
    path = folder / "micro.yaml"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    context = open_study(write_study(folder, weights={"seed": 4}), folder / "runs")
    run_study(context, until="measure")
    return context


@pytest.fixture(scope="module")
def run(context):
    return load_run(context.folder)


def test_the_dictionaries_are_those_that_the_study_asks_for(context, run):
    own = [f"{side}.layer01{kind}" for side in SIDES for kind in ("", ".batchtopk", ".pca", ".random")]
    own += [f"{side}.layer01.neurons" for side in ("base", "delta")]  # a baseline that `kinds` does not name
    null = [f"{side}.layer01{kind}" for side in ("delta:a", "untrained") for kind in ("", ".batchtopk")]
    replicas = [f"{side}.layer01{kind}.seed1" for side in SIDES for kind in ("", ".batchtopk")]
    expected = {*own, "joint.layer01.crosscoder", *null, *replicas, "joint.layer01.crosscoder.seed1"}
    assert {str(one) for one in context.dictionary_ids()} == expected
    assert {str(one) for one in run.dictionary_ids} == expected
    for one in run.dictionary_ids:
        assert run.dictionary(one).kind == run.metrics(one)["kind"] == (one.kind or "topk")
    assert run.metrics("base.layer01.pca")["n_latents"] == 8  # twice k: no width is the study's
    assert run.metrics("base.layer01.neurons")["n_latents"] == 64  # twice the model's
    assert run.metrics("base.layer01")["parts"]["heldout"]["fvu_neurons"] is not None
    assert run.metrics("base.layer01.neurons")["parts"]["heldout"]["fvu_pca"] is None  # not beside itself
    # The study's file changes its mind: what lies there from before is not of the run any more.
    fewer = {"kinds": ["topk"], "sides": ["delta"], "baselines": ["neurons"]}
    changed = {"dictionaries": run.study["dictionaries"] | fewer}
    left = {str(one) for one in run.dictionary_ids if _asked(run, changed, one)}
    of_delta = {"delta.layer01", "delta.layer01.seed1", "delta:a.layer01", "delta.layer01.neurons"}
    assert left == of_delta | {"untrained.layer01"}
    changed |= {"models": run.study["models"] | {"random_weights": None}}
    assert {str(one) for one in run.dictionary_ids if _asked(run, changed, one)} == of_delta


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
    assert sides["base.layer01.neurons"] == pair and sides["untrained.layer01"] == {"untrained"}
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
    for name in ("base.layer01.pca", "joint.layer01.random", "delta.layer01.pca", "base.layer01.neurons"):
        assert nulls[name] == {name.rsplit(".", 1)[1]}
    real = run.contrasts.filter((pl.col("null") == "") & (pl.col("contrast") == "shift"))
    q = real.filter(pl.col("language") == "pooled")
    assert (
        not q["dictionary"].str.contains("pca|random|neurons|untrained").any()
    )  # a family of their own: real q values stand
    beside = run.criteria["criteria"][3]["beside"]
    for name in ("untrained.layer01", "untrained.layer01.batchtopk"):
        assert nulls[name] == {"random_weights"} and contrasts[name] == {"culture"}
    assert beside["live PCA directions"] == 2 * 8 and "features that count on random directions" in beside


def test_labels_coherence_and_stability_are_of_trained_dictionaries(run):
    own = {str(one) for one in run.dictionary_ids if not one.is_replica and not one.is_null}
    assert own == {f"{side}.layer01{kind}" for side in SIDES for kind in ("", ".batchtopk")} | {
        "joint.layer01.crosscoder"
    }
    assert set(run.labels["feature"].str.split("/").list.first()) == own
    for number in (5, 7):
        rows = run.criteria["criteria"][number - 1]["per_dictionary"]
        assert {row["dictionary"] for row in rows} == own
    knows_nothing = run.criteria["criteria"][4]["beside"]
    assert 0 < knows_nothing["mean on a model of random weights"] < 1
    live = run.features.filter(pl.col("dictionary").str.starts_with("untrained"))["live"].sum()
    assert 0 < knows_nothing["features on a model of random weights"] <= live
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
    only = {"kinds": ["batchtopk", "crosscoder"], "sides": ["joint"]}
    fewer = open_study(write_study(tmp_path, **only), tmp_path / "runs")
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
    n_base, null = sum(one.is_baseline for one in ids), sum(one.is_null for one in ids)
    assert n_base == 8 and null == 12 and f"{null} nulls, of which {n_base} need no" in found["dictionaries"].basis
    assert found["nulls"].amount == "8" and "neurons" in found["nulls"].basis and "off" not in found["nulls"].basis
    assert "4 checkpoints" in found["forward tokens"].basis
    assert 0.8 * counted < codes < 1.5 * counted


def test_sides_and_kinds_are_checked_in_the_study_file(tmp_path):
    for given, message in (
        ({"kinds": ["topk", "topk"]}, "kinds: expected each once"),
        ({"sides": []}, "sides"),
        ({"kinds": ["relu"]}, "topk"),
        ({"baselines": ["pca", "pca"]}, "baselines: expected each once"),
        ({"baselines": ["topk"]}, "pca"),
        ({"weights": 7}, "random_weights"),
    ):
        with pytest.raises(UserError, match=message):
            open_study(write_study(tmp_path, **given), tmp_path / "runs")


def test_random_weights_are_a_side_of_their_own(context, run):
    assert list(context.models()) == ["base", "chat", "sham:a", "untrained"]
    base_nd, untrained_nd = run.activations("base", 1), run.activations("untrained", 1)
    assert untrained_nd.shape == base_nd.shape and np.isfinite(untrained_nd).all()
    assert not np.allclose(untrained_nd, base_nd, atol=0.1 * np.abs(base_nd).max())
    model = run.manifest("activations/untrained.layer01").facts["model"]
    assert model == "base, random weights"
    (line,) = [line for line in run.criteria["headline"] if "random-weights model" in line]
    beside = run.criteria["criteria"][3]["beside"]
    flagged, live = (beside[f"culture on base: {what}"] for what in ("features that count", "live features"))
    assert f"{flagged:,} of {live:,} live features of base" in line
    of_base = run.features.filter(pl.col("dictionary").is_in(["base.layer01", "base.layer01.batchtopk"]))
    assert live == of_base["live"].sum()
    untrained = run.features.filter(pl.col("dictionary").str.starts_with("untrained"))["live"].sum()
    assert beside["culture on a model of random weights: live features"] == untrained


def test_another_seed_of_the_random_weights_makes_their_activations_stale_and_no_others(context, tmp_path):
    study = open_study(write_study(tmp_path, weights={"seed": 5}), tmp_path / "runs").study
    other = Context(study, context.study_folder, context.folder, context.engine)
    stale = [artifact.name for artifact in extract_artifacts(other) if not artifact.state().fresh]
    assert stale == ["activations/untrained.layer01"]
    off = open_study(write_study(tmp_path, weights=False), tmp_path / "runs").study
    assert "untrained" not in Context(off, context.study_folder, context.folder, context.engine).models()


def test_every_number_of_a_report_on_every_kind_comes_from_the_runs_files(run):
    page = render_page(
        head_of(run), sections_of(run), lambda plot: Drawn(plot.name, "", plot.caption, Markup("<svg/>"))
    )
    wrong, derived = check_page(page, run.folder)
    assert wrong == [] and derived > 1000


def test_every_section_of_the_report_knows_random_weights(run, tmp_path):
    sections = {section.__name__: section(run) for section in SECTIONS}
    plots = [plot for block in sections["dictionaries_section"].blocks for plot in getattr(block, "plots", ())]
    (curves,) = [plot for plot in plots if plot.name == "training-untrained"]
    assert "layer 1" in draw_plot(curves, tmp_path).svg and "sham" not in curves.alt
    culture = next(
        b for b in sections["baselines_section"].blocks if "separate cultural" in getattr(b, "caption", "")
    )
    assert [row.head for row in culture.rows[:2]] == ["base, all layers", "a model of random weights, all layers"]
    assert any("random weights" in getattr(block, "text", "") for block in sections["method_section"].blocks)


def test_the_baselines_stand_beside_the_best_features_of_each_delta(context, run):
    table = run.baselines
    assert set(table["side"]) == {"delta", "delta:a"} and set(table["language"]) == {"en", "hi", "pooled"}
    real = table.filter((pl.col("null") == "") & (pl.col("language") == "pooled"))
    assert set(real["method"]) == {"topk", "batchtopk", "mean_difference", "pca", "random", "neurons"}
    assert set(table.filter(side="delta:a")["method"]) == {"topk", "batchtopk", "mean_difference"}
    assert set(table.filter(side="delta:a")["null"]) == {"sham:a"}
    features = table.filter(pl.col("method").is_in(["topk", "batchtopk"]))
    assert features["beyond"].is_not_null().all()
    for row in features.to_dicts():
        place = [pl.col(key) == row[key] for key in ("side", "layer", "language", "null")]
        baselines = table.filter(*place, pl.col("method").is_in(["mean_difference", "pca", "random", "neurons"]))
        assert row["beyond"] == pytest.approx(row["d_av"] - baselines["d_av"].max())
    # The best feature is that of the contrasts, chosen there by the selection half.
    (best,) = real.filter(method="topk").to_dicts()
    rows = run.contrasts.filter(
        (pl.col("dictionary") == "delta.layer01") & (pl.col("contrast") == "culture") & (pl.col("null") == "")
        & (pl.col("language") == "pooled")
    )  # fmt: skip
    chosen = rows.sort(pl.col("d_av_select").abs(), descending=True).to_dicts()[0]
    assert best["feature"] == chosen["feature"] and best["d_av"] == pytest.approx(
        chosen["d_av"] * np.sign(chosen["d_av_select"])
    )
    delta_nd = run.activations("delta", 1).astype(np.float64)
    halves = culture_designs(run.texts, context.study.contrasts, context.study.seed)
    vector = mean_difference(delta_nd, halves["select"]).pooled
    (lens,) = real.filter(method="mean_difference").to_dicts()
    assert lens["norm"] == pytest.approx(np.linalg.norm(vector)) and lens["n_b"] > 0
    assert "features/baselines.parquet" in read_manifest(run.folder / "criteria.manifest.json").files
