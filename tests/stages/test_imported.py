"""A SAELens folder in a study file becomes a dictionary of the study: codes on both sides, examples, contrasts,
criteria, labels and report rows like its own; and what does not belong there is refused in one line."""

from __future__ import annotations

import json
import shutil

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from safetensors.numpy import save_file

from antar.core.errors import UserError
from antar.core.sites import DictionaryId
from antar.dictionaries import load_dictionary
from antar.dictionaries.saelens import read_saelens
from antar.pipeline import open_study, plan_study, run_study
from antar.run import load_run
from antar.share.push import Push, push_run
from antar.stages.context import Context
from antar.stages.export import export_run, import_dictionary
from antar.stages.imported import check_imported
from antar.stages.train import artifacts as train_artifacts
from micro import MICRO
from walk import check_page

D, N, K = 32, 24, 4
NAME = "base.layer01.imported_theirs"
BACK = "delta.layer01.imported_back"


def foreign(folder, d=D, hook="blocks.1.hook_resid_post", scale=1.0, **config):
    """A SAELens folder as others may have written it: decoder rows of any length."""
    rng = np.random.default_rng(5)
    decoder_nd = rng.standard_normal((N, d)) * rng.uniform(0.5, 2, (N, 1))
    encoder_dn = decoder_nd.T / np.square(np.linalg.norm(decoder_nd, axis=1))
    tensors = {"W_enc": encoder_dn * scale, "b_enc": np.zeros(N), "W_dec": decoder_nd, "b_dec": np.zeros(d)}
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: a.astype(np.float32) for name, a in tensors.items()}, folder / "sae_weights.safetensors")
    metadata = {"sae_lens_version": "6.54.12", "model_name": "a-model", "hook_name": hook}
    cfg = {"architecture": "topk", "k": K, "d_in": d, "d_sae": N, "dtype": "float32", "metadata": metadata}
    cfg |= {"rescale_acts_by_decoder_norm": True} | config
    (folder / "cfg.json").write_text(json.dumps(cfg), encoding="utf-8")
    return folder


def write_study(folder, imported, **dictionaries):
    study = yaml.safe_load(MICRO)
    study["models"]["organism"]["shams"] = ["a"]
    study["extract"]["layers"] = [1]
    study["contrasts"] = {"facets": [], "permutations": 20}
    own = {"sides": ["base", "delta"], "baselines": ["random"], "seeds": 0} | dictionaries
    study["dictionaries"] |= {"imported": imported, **own}
    study.pop("truth")
    path = folder / "micro.yaml"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    """A study whose own delta dictionary goes out to SAELens and comes back, beside a stranger's on base."""
    folder = tmp_path_factory.mktemp("imported")
    foreign(folder / "saes/theirs")
    theirs = {"path": "saes/theirs", "name": "theirs", "layer": 1}
    run_study(open_study(write_study(folder, [theirs]), folder / "runs"), until="train")
    export_run(folder / "runs/micro", folder / "out", "saelens", "delta.layer01")
    import_dictionary(folder / "out/delta.layer01", folder / "back")
    back = {"path": "back", "name": "back", "side": "delta", "layer": 1}
    context = open_study(write_study(folder, [theirs, back]), folder / "runs")
    run_study(context)
    return context


@pytest.fixture(scope="module")
def run(context):
    return load_run(context.folder)


def test_it_is_a_dictionary_of_the_study(context, run):
    assert [str(one) for one in run.dictionary_ids if one.is_imported] == [NAME, BACK]
    assert DictionaryId.parse(NAME) in context.dictionary_ids()
    found = read_saelens(context.study_folder / "saes/theirs")
    for mine, theirs in zip(run.dictionary(NAME).weights.tensors(), found.weights.tensors(), strict=True):
        assert torch.equal(mine, theirs)
    metrics = run.metrics(NAME)
    assert metrics["imported"]["metadata"]["model_name"] == "a-model" and metrics["parts"]["heldout"]["fvu"] > 0
    assert run.manifest(f"dictionaries/{NAME}").facts["steps"] == 0 and run.history(NAME).is_empty()


def test_it_has_codes_on_both_sides_that_its_activations_give(run):
    for side in ("base", "chat", "sham:a"):
        expected = load_dictionary(run.folder / "dictionaries" / NAME).encode(run.activations(side, 1))
        assert np.array_equal(run.codes(NAME, side).csr().toarray(), expected.csr().toarray()) and expected.csr().nnz
    assert run.codes(BACK, "delta:a").csr().nnz > 0  # a sham's delta has none of its own: the null beside it


def test_it_is_contrasted_beside_its_nulls(run):
    its = run.contrasts.filter(dictionary=NAME)
    assert set(its["contrast"]) == {"shift", "culture", "interaction"}
    assert set(its["null"]) == {"", "shuffled", "same_checkpoint", "sham:a"}
    assert its.filter(null="same_checkpoint")["d_av"].abs().max() == 0
    delta = run.contrasts.filter(dictionary=BACK)
    assert set(delta["contrast"]) == {"culture"} and set(delta["null"]) == {"", "shuffled", "sham:a"}


def test_what_went_out_and_came_back_has_the_same_statistics(run):
    assert run.metrics(BACK)["parts"] == run.metrics("delta.layer01")["parts"]
    keys = ["language", "latent", "null"]
    own = run.contrasts.filter(dictionary="delta.layer01", contrast="culture", null="").sort(keys)
    back = run.contrasts.filter(dictionary=BACK, contrast="culture", null="").sort(keys)
    assert own.height > 0
    for column in ("latent", "n_a", "n_b", "d_av", "d_lo", "d_hi", "auroc"):
        assert own[column].to_list() == back[column].to_list()


def test_it_has_features_examples_labels_criteria_and_report_rows(run):
    live = run.features.filter(dictionary=NAME)
    assert live.height == N and live["live"].any()
    assert not run.examples.filter(pl.col("dictionary") == NAME).is_empty()
    assert run.labels["feature"].str.starts_with(NAME).any()
    for number in (1, 2, 5):
        assert NAME in {row["dictionary"] for row in run.criteria["criteria"][number - 1]["per_dictionary"]}
    page = (run.folder / "report/index.html").read_text(encoding="utf-8")
    assert NAME in page and BACK in page


def test_everything_is_fresh_and_what_counts_is_the_content_not_the_path(context, tmp_path):
    assert all(plan.fresh for plan in plan_study(context))
    moved = shutil.copytree(context.study_folder / "saes/theirs", tmp_path / "elsewhere")
    others = [{"path": str(moved), "name": "theirs", "layer": 1}]
    study = open_study(write_study(tmp_path, others), tmp_path / "runs").study
    elsewhere = Context(study, context.study_folder, context.folder, context.engine)
    states = {artifact.name: artifact.state().fresh for artifact in train_artifacts(elsewhere)}
    assert all(states.values()) and f"dictionaries/{NAME}" in states
    foreign(moved, scale=1.5)
    stale = [a.state().stale for a in train_artifacts(elsewhere) if not a.state().fresh]
    assert stale == ["theirs/sae_weights.safetensors changed"]


def test_a_study_of_imported_dictionaries_alone_trains_none(tmp_path):
    foreign(tmp_path / "sae", architecture="standard", rescale_acts_by_decoder_norm=False)
    only = [{"path": "sae", "name": "relu", "layer": 1, "k": 3}]
    context = open_study(write_study(tmp_path, only, kinds=[], baselines=[]), tmp_path / "runs")
    assert [str(one) for one in context.dictionary_ids()] == ["base.layer01.imported_relu"]
    run_study(context, until="features")
    assert load_run(context.folder).dictionary("base.layer01.imported_relu").kind == "batchtopk"
    with pytest.raises(UserError, match="kinds: expected at least one, or dictionaries in `imported`, found neither"):
        open_study(write_study(tmp_path, [], kinds=[]), tmp_path / "runs")


ENTRY = {"path": "sae", "name": "theirs", "layer": 1}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            ENTRY | {"layer": 0},
            r"dictionaries\.imported: expected theirs on one of extract\.layers \(1\), found layer 0",
        ),
        (ENTRY | {"name": "The ir"}, r"dictionaries\.imported\.0\.name: String should match"),
        (ENTRY | {"side": "joint"}, r"dictionaries\.imported\.0\.side"),
    ],
)
def test_the_study_file_says_what_is_wrong(tmp_path, given, told):
    with pytest.raises(UserError, match=told):
        open_study(write_study(tmp_path, [given]), tmp_path / "runs")


def test_a_name_stands_once(tmp_path):
    with pytest.raises(UserError, match="expected a name once for each side and layer, found theirs twice on base"):
        open_study(write_study(tmp_path, [ENTRY, ENTRY]), tmp_path / "runs")


def truncated(folder):
    weights = foreign(folder) / "sae_weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def pickled(folder):
    foreign(folder)
    (folder / "sae_weights.safetensors").rename(folder / "ae.pt")


def mislabelled_by_antar(folder):
    ours = {"antar": {"side": "delta", "layer": 1}, "hook_name": None, "sae_lens_version": "6.0.0"}
    foreign(folder, metadata=ours)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (truncated, "expected a whole safetensors file"),
        (pickled, r"found ae\.pt; antar opens no pickles"),
        (lambda f: foreign(f, hook="blocks.2.hook_resid_post"), "the output of block 2; set layer: 2"),
        (lambda f: foreign(f, hook="blocks.1.hook_resid_pre"), "the output of block 0"),
        (lambda f: foreign(f, hook="blocks.1.hook_mlp_out"), "antar reads no other place"),
        (lambda f: foreign(f, d_sae=N + 1), "as cfg.json says"),
        (mislabelled_by_antar, "found one that antar trained on delta, layer 1"),
        (lambda f: None, "found none; name another"),
    ],
)
def test_what_does_not_belong_is_refused_before_anything_is_run(tmp_path, make, told):
    make(tmp_path / "sae")
    context = open_study(write_study(tmp_path, [ENTRY]), tmp_path / "runs")
    with pytest.raises(UserError, match=told) as refused:
        run_study(context)
    assert "\n" not in str(refused.value) and not (context.folder / "corpus").exists()


def test_another_width_is_refused_and_nothing_is_written(context, tmp_path):
    foreign(tmp_path / "sae", d=D + 1)
    study = open_study(
        write_study(tmp_path, [ENTRY | {"name": "wide"}], kinds=[], baselines=[]), tmp_path / "r"
    ).study
    folder = shutil.copytree(context.folder, tmp_path / "r/micro")
    wide = Context(study, tmp_path, folder, context.engine)
    with pytest.raises(
        UserError, match=rf"expected a dictionary of width {D}, .* found {D + 1}; it is of another model"
    ):
        run_study(wide, only="train")
    assert not list((folder / "dictionaries/base.layer01.imported_wide").glob("*.json"))


def test_the_output_of_a_block_may_be_named_as_the_next_ones_input(tmp_path):
    for hook in ("blocks.2.hook_resid_pre", "model.layers.1", "transformer.h.1"):
        foreign(tmp_path / "sae", hook=hook)
        open_and_check = open_study(write_study(tmp_path, [ENTRY]), tmp_path / "runs")
        run_study(open_and_check, until="organism")


def test_what_its_source_says_stays_with_it(run, tmp_path):
    about = json.loads((run.folder / "dictionaries" / NAME / "cfg.json").read_text("utf-8"))["about"]
    assert about["metadata"]["model_name"] == "a-model" and about["imported_from"] == "theirs"
    origin = run.origin(NAME)
    assert origin.line == "imported from theirs (source model a-model, hook blocks.1.hook_resid_post)"
    assert run.origin("base.layer01") is None and "trained by antar on delta, layer 1" in run.origin(BACK).line
    page = (run.folder / "report/index.html").read_text(encoding="utf-8")
    assert f"{NAME} (imported)" in page and "The study&#39;s recipe is not its own" in page.replace("'", "&#39;")


def test_it_goes_out_as_its_sources_and_not_as_the_studys(run, tmp_path):
    export_run(run.folder, tmp_path / "out", "saelens", NAME)
    told = json.loads((tmp_path / "out" / NAME / "cfg.json").read_text("utf-8"))["metadata"]
    assert told["model_name"] == "a-model" and told["hook_name"] == "blocks.1.hook_resid_post"
    assert told["antar"]["imported"] == run.origin(NAME).line and "checkpoints" not in told["antar"]
    assert told["sae_lens_version"] == "6.0.0", "the version of this file, not of the source's"
    again = read_saelens(tmp_path / "out" / NAME)
    assert torch.equal(again.weights.decoder_nd, run.dictionary(NAME).weights.decoder_nd)
    export_run(run.folder, tmp_path / "inside", "saelens", NAME, inside=True)
    told = json.loads((tmp_path / "inside" / NAME / "cfg.json").read_text("utf-8"))["metadata"]
    assert told["model_name"] == "antar-organism-tiny/base", "SAEBench attaches it to what it is read on"


def test_cards_say_that_it_was_imported(run, tmp_path):
    push_run(run.folder, f"{tmp_path}/one", Push(dictionary=NAME, license="mit"))
    card = (tmp_path / "one/README.md").read_text("utf-8").replace("\\", "")
    assert "imported from theirs (source model a-model, hook blocks.1.hook_resid_post)" in card
    assert f"| width, latents, k | {D}, {N}, {K} |" in card and "## Recipe" not in card and "base_model" not in card
    assert "stated by whoever pushed this" in card and "layer 1 of base, by its name another model" in card
    assert "It was measured here on text vectors (mean" in card and "dictionaries were trained on" not in card
    told = json.loads((tmp_path / "one/saelens/cfg.json").read_text("utf-8"))["metadata"]
    assert told["model_name"] == "a-model"
    push_run(run.folder, f"{tmp_path}/all", Push(license="mit"))
    card = (tmp_path / "all/README.md").read_text("utf-8").replace("\\", "")
    assert f"| {NAME} | imported from theirs" in card and "stated by whoever pushed this" in card
    push_run(run.folder, f"{tmp_path}/own", Push(dictionary="base.layer01", license="mit"))
    card = (tmp_path / "own/README.md").read_text("utf-8")
    assert "imported" not in card and "## Recipe" in card


@pytest.mark.parametrize("given", [{"side": "base", "layer": 1}, {"side": "delta", "layer": 0}])
def test_a_dictionary_of_antars_own_from_elsewhere_is_refused(context, tmp_path, given):
    source = context.folder / "dictionaries/delta.layer01"
    path = write_study(tmp_path, [{"path": str(source), "name": "own", **given}])
    path.write_text(path.read_text("utf-8").replace("- 1\n", "- 0\n  - 1\n"), encoding="utf-8")
    with pytest.raises(UserError, match="found one that antar trained on delta, layer 1") as refused:
        run_study(open_study(path, tmp_path / "runs"))
    assert "\n" not in str(refused.value)


def test_another_model_is_said_and_stands_in_the_report(run, context, capsys):
    check_imported(context)
    said = capsys.readouterr().err
    assert f"{NAME} was trained on a-model, read here on base" in said and f"{BACK} was" not in said
    page = (run.folder / "report/index.html").read_text(encoding="utf-8")
    assert "is read here on" in page


def test_the_plan_checks_imports_too(tmp_path):
    truncated(tmp_path / "sae")
    context = open_study(write_study(tmp_path, [ENTRY]), tmp_path / "runs")
    (train,) = [plan for plan in plan_study(context) if plan.stage == "train"]
    assert "expected a whole safetensors file" in train.reasons[0] and not train.fresh
    foreign(tmp_path / "sae")
    (train,) = [plan for plan in plan_study(context) if plan.stage == "train"]
    assert not train.reasons


def test_another_width_is_refused_before_anything_is_run(tmp_path):
    foreign(tmp_path / "sae", d=D + 1)
    context = open_study(write_study(tmp_path, [ENTRY]), tmp_path / "runs")
    with pytest.raises(UserError, match=rf"width {D}, .* found {D + 1}; it is of another model: use one of"):
        run_study(context)
    assert not (context.folder / "corpus").exists()


def test_a_k_that_is_not_what_fires_is_said(tmp_path, capsys):
    foreign(tmp_path / "sae", architecture="standard", rescale_acts_by_decoder_norm=False)
    only = [{"path": "sae", "name": "relu", "layer": 1, "k": 1}]
    context = open_study(write_study(tmp_path, only, kinds=[], baselines=[]), tmp_path / "runs")
    run_study(context, until="train")
    l0 = load_run(context.folder).metrics("base.layer01.imported_relu")["parts"]["train"]["l0"]
    assert l0 > 2 and f"k is 1 as told, and {l0:.4g} of its latents fire" in capsys.readouterr().err


def test_what_the_report_says_of_it_comes_from_its_files(run):
    page = (run.folder / "report/index.html").read_text(encoding="utf-8")
    assert f"dictionaries/{NAME}/metrics.json#/imported/metadata/model_name" in page
    wrong, derived = check_page(page, run.folder)
    assert wrong == [] and derived > 100
