"""A study whose activations are one row a token: dictionaries, codes, tables and replicas come out of a stream."""

from __future__ import annotations

import json
import sys
import tracemalloc
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal

from antar.core.errors import UserError
from antar.core.manifest import MANIFEST_NAME, Fingerprint, write_manifest
from antar.core.shards import shard_name, write_shard
from antar.core.sites import DictionaryId, Site
from antar.core.sparse import SparseCodes
from antar.dictionaries import load_dictionary
from antar.engines import InlineEngine
from antar.features import ContrastConfig, measure_contrasts
from antar.models import read_site
from antar.run import load_run
from antar.stages import costs, features, train
from antar.stages.context import Context
from antar.stages.counterparts import measure_counterparts
from antar.stages.token_level import TokenMeasure
from antar.study import parse_study, study_yaml

sys.path.insert(0, str(Path(__file__).parent))
from stored import STUDY, D, stored_run

PER_SHARD = 40
DICTIONARIES = {"folds": 2, "seeds": 1, "baselines": ["pca"], "sides": ["base", "chat", "delta", "joint"],
                "kinds": ["topk", "batchtopk", "crosscoder"]}  # fmt: skip


def study_of(pooling: str, **dictionaries: Any) -> dict[str, Any]:
    study = yaml.safe_load(STUDY)
    study["models"].pop("shams")
    return {
        "models": study["models"],
        "extract": {"layers": [0], "pooling": pooling, "texts_per_shard": PER_SHARD},
        "dictionaries": study["dictionaries"] | dictionaries,
    }


def run_of(folder: Path, pooling: str, **dictionaries: Any) -> Context:
    """The stored run of 150 texts, with what tables and contrasts want to know of them."""
    context = stored_run(folder, **study_of(pooling, **dictionaries))
    path = folder / "corpus" / "texts.parquet"
    texts = pl.read_parquet(path)
    n = texts.height
    half = pl.Series("half", ["select" if i % 4 < 2 else "estimate" for i in range(n)])
    texts.with_columns(half, characters=pl.Series(range(20, 20 + n))).write_parquet(path)
    write_manifest(path.with_name(MANIFEST_NAME), "corpus", Fingerprint(), [path], {"n_texts": n})
    return context


def tokens_of(context: Context, lengths: np.ndarray) -> dict[str, list[np.ndarray]]:
    """Store each text's row as so many tokens, which differ and whose mean is the row; side → its texts' tokens."""
    made: dict[str, list[np.ndarray]] = {}
    for side in ("base", "chat"):
        site, rng = Site(side, 0), np.random.default_rng(len(side))
        rows_nd = read_site(context.folder, site)
        apart = [0.5 * rng.standard_normal((t, D)) * (t > 1) for t in lengths]
        made[side] = [
            (row + one - one.mean(axis=0)).astype(np.float32) for row, one in zip(rows_nd, apart, strict=True)
        ]
        folder, files = context.folder / "activations" / site.folder, []
        for shard, lo in enumerate(range(0, len(lengths), PER_SHARD)):
            its = lengths[lo : lo + PER_SHARD]
            offsets = np.concatenate([[0], np.cumsum(its)]).astype(np.int64)
            files.append(folder / shard_name(shard))
            acts_nd = np.concatenate(made[side][lo : lo + PER_SHARD])
            write_shard(files[-1], {"acts": acts_nd, "offsets": offsets}, "tokens")
        write_manifest(folder / MANIFEST_NAME, f"activations/{site}", Fingerprint(), files)
    return made


def contrasts_of(context: Context) -> pl.DataFrame:
    sets = [one for one in context.code_sets() if one[0].kind != "pca"]
    codes = {one: context.stored_codes(*one) for one in sets}
    return measure_contrasts(context.texts(), codes, ContrastConfig(permutations=30), seed=2)


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> Context:
    context = run_of(tmp_path_factory.mktemp("pooled"), "mean", **DICTIONARIES)
    train.make(context)
    features.make(context)
    return context


@pytest.fixture(scope="module")
def one_token(tmp_path_factory: pytest.TempPathFactory) -> Context:
    context = run_of(tmp_path_factory.mktemp("one"), "none", **DICTIONARIES)
    tokens_of(context, np.ones(150, np.int64))
    train.make(context)
    features.make(context)
    return context


@pytest.fixture(scope="module")
def many_tokens(tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, dict[str, list[np.ndarray]]]:
    context = run_of(tmp_path_factory.mktemp("many"), "none", **DICTIONARIES)
    made = tokens_of(context, np.random.default_rng(9).integers(1, 12, 150))
    train.make(context)
    features.make(context)
    return context, made


def test_texts_of_one_token_are_a_pooled_study(pooled: Context, one_token: Context) -> None:
    """Every dictionary with its metrics, every code, table and contrast, to the bit."""
    assert pooled.dictionary_ids() == one_token.dictionary_ids()
    for one in pooled.dictionary_ids():
        folders = [context.folder / "dictionaries" / one.folder for context in (pooled, one_token)]
        ours, theirs = (folder.joinpath("sae_weights.safetensors").read_bytes() for folder in folders)
        assert ours == theirs, one
        # A history's errors are times the squared scale, which one pass and two give to 1e-16.
        histories = [pl.read_parquet(folder / "history.parquet") for folder in folders]
        assert_frame_equal(*histories, rel_tol=1e-12, abs_tol=0)
        metrics = [json.loads((folder / "metrics.json").read_bytes()) for folder in folders]
        assert metrics[1].pop("tokens_of")["train"] == metrics[0]["parts"]["train"]["rows"]
        assert metrics[0] == metrics[1], one
    for key in pooled.code_sets():
        ours, theirs = (context.codes(*key).csr() for context in (pooled, one_token))
        assert (ours != theirs).nnz == 0, key
    for name in ("features.parquet", "examples.parquet"):
        assert pl.read_parquet(pooled.folder / "features" / name).equals(
            pl.read_parquet(one_token.folder / "features" / name)
        )
    assert contrasts_of(pooled).equals(contrasts_of(one_token))


def test_replicas_and_counterparts_of_one_token_are_those_of_pooled_texts(
    pooled: Context, one_token: Context
) -> None:
    found: list[pl.DataFrame] = []
    for context in (pooled, one_token):
        table = pl.read_parquet(context.folder / "features" / "features.parquet")
        live = {
            one: table.filter(pl.col("dictionary") == str(one)).sort("latent")["live"].to_numpy()
            for one in context.dictionary_ids()
            if not one.is_replica
        }
        found.append(measure_counterparts(context, context.texts(), live)[0])
    assert found[0].height and set(found[0]["null"]) == {"", "other_seed"}
    assert found[0].equals(found[1])


@pytest.mark.parametrize(
    "name", ["base.layer00", "delta.layer00", "joint.layer00.batchtopk", "joint.layer00.crosscoder"]
)
def test_a_text_has_the_mean_of_its_tokens_codes(many_tokens, name: str) -> None:
    context, made = many_tokens
    one = DictionaryId.parse(name)
    dictionary = load_dictionary(context.folder / "dictionaries" / one.folder)
    for side in [side for which, side in context.code_sets() if which == one]:
        rows = {
            "delta": lambda i: made["chat"][i] - made["base"][i],
            "joint": lambda i: np.concatenate([made["base"][i], made["chat"][i]], axis=1),
        }.get(side, lambda i, side=side: made[side][i])
        naive = np.stack([dictionary.encode(rows(i)).csr().toarray().mean(axis=0) for i in range(150)])
        np.testing.assert_allclose(context.codes(one, side).csr().toarray(), naive, rtol=1e-4, atol=1e-5)


def test_the_strongest_token_is_another_choice(many_tokens) -> None:
    context, made = many_tokens
    one = DictionaryId("base", 0)
    folder = context.folder
    other = Context(
        context.study.model_copy(
            update={"features": context.study.features.model_copy(update={"token_codes": "max"})}
        ),
        folder, folder, InlineEngine(),
    )  # fmt: skip
    stale = [artifact.state().stale for artifact in features.artifacts(other)[:1]]
    assert stale[0] is not None and "token_codes" in stale[0]
    site = features.TokenSite(folder, Site("base", 0))
    dictionary = load_dictionary(folder / "dictionaries" / one.folder)
    found = features.codes_of_shard(other, dictionary, site, 1).csr().toarray()
    naive = np.stack([dictionary.encode(made["base"][i]).csr().toarray().max(axis=0) for i in range(40, 80)])
    np.testing.assert_allclose(found, naive, rtol=1e-4, atol=1e-5)


def test_a_run_gives_its_tokens_and_their_means(many_tokens) -> None:
    context, made = many_tokens
    (context.folder / "study.yaml").write_text(study_yaml(context.study), encoding="utf-8")
    run = load_run(context.folder)
    found = np.concatenate([rows for _, rows in run.tokens("chat", 0)])
    np.testing.assert_array_equal(found, np.concatenate(made["chat"]))
    means = np.stack([one.mean(axis=0) for one in made["chat"]])
    np.testing.assert_allclose(run.activations("chat", 0), means, rtol=1e-5, atol=1e-6)
    with pytest.raises(UserError, match="not made yet; `antar extract STUDY` makes it"):
        run.tokens("chat", 3)


def test_training_sees_the_tokens_of_its_texts_only(many_tokens) -> None:
    context, made = many_tokens
    texts, cfg = context.texts(), context.study.dictionaries
    for one in (DictionaryId("base", 0), DictionaryId("delta", 0, fold=1), DictionaryId("joint", 0)):
        rows, val = train.training_rows(texts, cfg, one.fold, context.study.seed)
        sides = 2 if one.is_joint_rows else 1
        manifest = context.manifest(f"dictionaries/{one.folder}")
        assert manifest.facts["rows_train"] == sides * sum(len(made["base"][i]) for i in rows)
        assert manifest.facts["rows_val"] == sides * sum(len(made["base"][i]) for i in val)


def test_what_fires_in_training_holds_memory_that_does_not_grow_with_the_tokens() -> None:
    n_latents, pieces = 4096, 800

    class Rows:
        sizes = np.ones(pieces, np.int64)

        def read(self, piece: int) -> np.ndarray:
            return np.full((1, 1), piece, np.float32)

    class Latents:
        decoder_nd = np.zeros((n_latents, 1), np.float32)

        def encode(self, acts_nd: np.ndarray) -> SparseCodes:
            return SparseCodes(2 * acts_nd.astype(np.int32), np.ones((1, 1), np.float32), n_latents)

    tracemalloc.start()
    fires = train.fires_in_training(cast(Any, Latents()), cast(Any, Rows()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.flatnonzero(fires).tolist() == list(range(0, 2 * pieces, 2))
    assert peak < 8 * 8 * n_latents  # a count for each piece would be 100 times as much


def test_metrics_are_of_a_sample_that_is_told(many_tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    context, made = many_tokens
    monkeypatch.setattr("antar.stages.token_level.SAMPLE_ROWS", 100)
    texts, one = context.texts(), DictionaryId("delta", 0)
    parts = train.evaluation_parts(texts, np.flatnonzero((texts["split"] == "train").to_numpy()))
    found = TokenMeasure.of_parts(context, one, parts)
    assert found.of == {name: sum(len(made["base"][i]) for i in parts[name]) for name in ("train", "heldout")}
    assert len(found.acts_nd) == 200 and len(found.parts["train"]) == len(found.parts["heldout"]) == 100
    both = np.concatenate([found.parts["heldout_cultural"], found.parts["heldout_control"]])
    assert sorted(both) == found.parts["heldout"].tolist()
    deltas = {name: np.concatenate([made["chat"][i] - made["base"][i] for i in rows]) for name, rows in parts.items()}
    for name, rows in found.parts.items():
        assert {tuple(row) for row in found.acts_nd[rows]} <= {tuple(row) for row in deltas[name]}, name


def test_killed_between_shards_a_rerun_makes_the_rest(many_tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    context, _ = many_tokens
    folder = context.folder / "codes" / "base.layer00@chat"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / shard_name(2)).unlink()
    encoded: list[int] = []
    real = features.codes_of_shard

    def counted(its: Context, dictionary: Any, site: Any, shard: int) -> Any:
        encoded.append(shard)
        return real(its, dictionary, site, shard)

    monkeypatch.setattr(features, "codes_of_shard", counted)
    features.make(context)
    assert encoded == [2]
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_buffer_matters_to_token_level_dictionaries_alone(pooled: Context, one_token: Context) -> None:
    for context, expected in ((pooled, False), (one_token, True)):
        changed = context.study.dictionaries.model_copy(update={"stream_buffer": 7})
        study = context.study.model_copy(update={"dictionaries": changed})
        other = Context(study, context.folder, context.folder, InlineEngine())
        one = DictionaryId("base", 0)
        assert (train.artifact_of(other, one).state().stale is not None) == expected


def test_stacks_are_refused_where_rows_stay_on_the_disk() -> None:
    raw = yaml.safe_load(STUDY) | study_of("none", stacked="always")
    with pytest.raises(UserError, match=r"dictionaries\.stacked: with extract\.pooling none .* use auto or never"):
        parse_study(raw, "study")


def test_the_plan_counts_tokens_on_the_disk_and_a_bounded_memory(
    pooled: Context, one_token: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs, "known_width", lambda _: 2048)
    found = [{one.what: one for one in costs.estimate_costs(context)} for context in (pooled, one_token)]
    disk = [float(one["disk"].amount.split()[0]) for one in found]
    assert disk[1] > 40 * disk[0]  # 512 tokens a text; dictionaries take the same
    assert "its rows twice" in found[0]["memory to train"].basis
    assert "a buffer and samples of its rows" in found[1]["memory to train"].basis
    # The same bound for any number of texts: the buffer, and five samples of the crosscoder's 4,096 columns.
    memory = float(found[1]["memory to train"].amount.split()[0])
    assert memory == pytest.approx((512 * 2**20 + 5 * 2**15 * 4096 * 4) / 2**30, abs=0.02)
