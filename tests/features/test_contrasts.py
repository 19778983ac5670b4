"""The long table: its contract, its contrasts on planted truth, its edge cases."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy import stats

from antar.core.errors import UserError
from antar.core.sites import DictionaryId
from antar.core.sparse import SparseCodes
from antar.features import ContrastConfig, comparisons, defined_contrasts, measure_contrasts, require_defined
from antar.features.contrasts import COLUMNS

BASE, DELTA, SHAM = DictionaryId("base", 3), DictionaryId("delta", 3), DictionaryId("delta:a", 3)
CONFIG = ContrastConfig(permutations=200, facet_permutations=60, facets=("state",))
N, LATENTS = 800, 40


def make_texts(seed: int = 0, n: int = N) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    cultural = rng.random(n) < 0.6
    state = np.where(cultural, rng.choice(["केरल", "Punjab", "தமிழ்நாடு"], n), None)
    return pl.DataFrame(
        {
            "text_id": [f"t{i}" for i in range(n)],
            "text": ["अ" * int(m) for m in rng.integers(20, 60, n)],
            "group": np.where(cultural, "cultural", "control"),
            "language": rng.choice(["en", "hi"], n),
            "source": ["made"] * n,
            "document": [f"d{i // 2}-{int(c)}" for i, c in enumerate(cultural)],
            "split": ["heldout"] * n,
            "half": np.where(rng.random(n) < 0.5, "estimate", "select"),
            "state": pl.Series(state.tolist(), dtype=pl.String),
        }
    )


def make_dense(seed: int, n: int = N) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.random((n, LATENTS)) < 0.3) * rng.lognormal(size=(n, LATENTS))


def codes_of(x: np.ndarray) -> SparseCodes:
    indices = np.tile(np.arange(x.shape[1], dtype=np.int32), (len(x), 1))
    return SparseCodes(indices, x.astype(np.float32), x.shape[1])


def mask(texts: pl.DataFrame, **columns: str) -> np.ndarray:
    return np.logical_and.reduce(
        [(texts[name] == value).fill_null(False).to_numpy() for name, value in columns.items()]
    )


@pytest.fixture(scope="module")
def planted() -> tuple[pl.DataFrame, dict[tuple[DictionaryId, str], np.ndarray], pl.DataFrame]:
    """Latent 1: more on cultural texts (both sides); 2: grows in chat everywhere; 3: grows in chat on cultural texts
    only; 4: Kerala's in Hindi."""
    texts = make_texts()
    rng = np.random.default_rng(1)
    cultural = mask(texts, group="cultural")
    base = make_dense(2)
    chat = base * rng.lognormal(0, 0.3, base.shape)
    base[:, 1] += 2 * cultural
    chat[:, 1] += 2 * cultural
    chat[:, 2] += 3 + rng.random(N)
    chat[cultural, 3] += 3 + rng.random(cultural.sum())
    kerala = mask(texts, state="केरल", language="hi")
    base[kerala, 4] += 5
    chat[kerala, 4] += 5
    dense = {(BASE, "base"): base, (BASE, "chat"): chat, (BASE, "sham:a"): base * rng.lognormal(0, 0.3, base.shape),
             (DELTA, "delta"): make_dense(5), (SHAM, "delta:a"): make_dense(6)}  # fmt: skip
    return texts, dense, measure_contrasts(texts, {key: codes_of(x) for key, x in dense.items()}, CONFIG, seed=4)


def flagged(table: pl.DataFrame, **where: str) -> pl.DataFrame:
    rows = table.filter((pl.col("q") < 0.05) & (pl.col("d_av").abs() > 0.8))
    return rows.filter(*(pl.col(name) == value for name, value in where.items()))


def test_columns_are_the_contract(planted) -> None:
    table = planted[2]
    assert tuple(table.columns) == COLUMNS
    assert set(table["contrast"]) == {"shift", "culture", "interaction", "facet"}
    assert set(table["language"]) == {"en", "hi", "pooled"}
    key = ["contrast", "dictionary", "side_a", "side_b", "facet", "value", "language", "latent", "null"]
    assert not table.select(key).is_duplicated().any()
    assert table.filter(pl.col("feature") != pl.col("dictionary") + "/" + pl.col("latent").cast(pl.String)).is_empty()
    assert set(table.filter(pl.col("dictionary") == str(SHAM))["null"]) == {"sham:a"}
    assert set(table.filter(pl.col("side_b") == "sham:a")["null"]) == {"sham:a"}
    shifts = table.filter(pl.col("contrast") == "shift").select("side_a", "side_b", "null").unique().sort("null")
    assert shifts.rows() == [
        ("base", "chat", ""), ("base", "base", "same_checkpoint"), ("base", "sham:a", "sham:a"),
        ("base", "chat", "shuffled"),
    ]  # fmt: skip


def test_planted_effects_are_found_where_they_are_and_nulls_find_nothing(planted) -> None:
    table = planted[2]
    assert set(flagged(table, contrast="culture", null="", language="pooled")["latent"]) == {1, 3}
    assert set(flagged(table, contrast="culture", null="", language="pooled", side_b="base")["latent"]) == {1}
    assert set(flagged(table, contrast="shift", null="", language="pooled")["latent"]) == {2, 3}
    assert set(flagged(table, contrast="interaction", null="", language="pooled")["latent"]) == {3}
    facet = flagged(table, contrast="facet", null="", language="hi").filter(pl.col("d_av") > 0)
    assert set(facet.select("latent", "value").rows()) == {(4, "केरल")}
    assert flagged(table, contrast="facet", null="", language="en").is_empty()
    for null in ("shuffled", "same_checkpoint", "sham:a"):
        # The sham side keeps what base has on cultural texts: only its shifts are nulls.
        rows = flagged(table, null=null).filter(
            ~pl.col("side_b").str.starts_with("sham") | (pl.col("side_a") == "base")
        )
        assert rows.filter(
            pl.col("contrast").is_in(["shift", "interaction"]) | (pl.col("null") != "sham:a")
        ).is_empty()
    assert flagged(table, dictionary=str(SHAM)).is_empty()


def test_rows_of_one_language_equal_dense_numpy(planted) -> None:
    texts, dense, table = planted
    rows = mask(texts, language="hi", half="estimate")
    cultural = mask(texts, group="cultural")
    x = dense[BASE, "base"][:, 7].astype(np.float32)
    a, b = x[rows & ~cultural], x[rows & cultural]
    row = table.filter(
        (pl.col("contrast") == "culture") & (pl.col("dictionary") == str(BASE)) & (pl.col("side_b") == "base")
        & (pl.col("language") == "hi") & (pl.col("latent") == 7) & (pl.col("null") == "")
    ).row(0, named=True)  # fmt: skip
    assert (row["n_a"], row["n_b"]) == (len(a), len(b))
    assert row["documents_b"] == texts.filter(pl.Series(rows & cultural))["document"].n_unique()
    sd = np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    assert row["d_av"] == pytest.approx((b.mean() - a.mean()) / sd, rel=1e-5)
    assert row["auroc"] == pytest.approx(stats.mannwhitneyu(b, a).statistic / len(a) / len(b))
    select = mask(texts, language="hi", half="select")
    a, b = x[select & ~cultural], x[select & cultural]
    sd = np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    assert row["d_av_select"] == pytest.approx((b.mean() - a.mean()) / sd, rel=1e-5)


def test_shift_and_interaction_rows_equal_dense_numpy(planted) -> None:
    texts, dense, table = planted
    base, chat = (dense[BASE, side][:, 3].astype(np.float32).astype(float) for side in ("base", "chat"))
    at = (
        (pl.col("language") == "en") & (pl.col("latent") == 3) & (pl.col("null") == "") & (pl.col("side_b") == "chat")
    )
    rows = mask(texts, language="en", half="estimate")
    cultural, control = rows & mask(texts, group="cultural"), rows & mask(texts, group="control")
    change = chat - base
    shift = table.filter(at & (pl.col("contrast") == "shift")).row(0, named=True)
    assert shift["n_a"] == shift["n_b"] == cultural.sum()
    assert shift["d_z"] == pytest.approx(change[cultural].mean() / change[cultural].std(ddof=1), rel=1e-5)
    odds = np.array([[np.sum(one[who] > 0) + 0.5, np.sum(one[who] == 0) + 0.5]
                     for who in (cultural, control) for one in (chat, base)])  # fmt: skip
    logits = np.log(odds[:, 0] / odds[:, 1])
    assert shift["log_odds"] == pytest.approx(logits[0] - logits[1])
    interaction = table.filter(at & (pl.col("contrast") == "interaction")).row(0, named=True)
    assert interaction["mean_b"] == pytest.approx(change[cultural].mean(), rel=1e-5)
    assert interaction["mean_a"] == pytest.approx(change[control].mean(), rel=1e-5)
    assert interaction["log_odds"] == pytest.approx(logits[0] - logits[1] - logits[2] + logits[3])
    auroc = stats.mannwhitneyu(change[cultural], change[control]).statistic / cultural.sum() / control.sum()
    assert interaction["auroc"] == pytest.approx(auroc)


def test_q_is_bh_over_all_features_sites_and_values_of_the_contrast(planted) -> None:
    table = planted[2].filter((pl.col("contrast") == "facet") & (pl.col("null") == ""))
    for pooled in (True, False):
        rows = table.filter((pl.col("language") == "pooled") == pooled).drop_nulls("p")
        assert np.allclose(rows["q"], stats.false_discovery_control(rows["p"].to_numpy()))
        assert rows["dictionary"].n_unique() == 2


def test_pooling_over_languages_is_not_fooled_by_simpsons_paradox() -> None:
    """Hindi fires the feature far more and has far more cultural texts; within a language nothing differs."""
    rng = np.random.default_rng(7)
    n = 2000
    hindi = rng.random(n) < 0.5
    cultural = rng.random(n) < np.where(hindi, 0.85, 0.15)
    x = (rng.random((n, 100)) < np.where(hindi, 0.8, 0.1)[:, None]) * rng.lognormal(size=(n, 100))
    texts = make_texts(8, n).with_columns(
        language=pl.Series(np.where(hindi, "hi", "en")), group=pl.Series(np.where(cultural, "cultural", "control")),
        document=pl.Series([f"d{i}" for i in range(n)]), half=pl.lit("estimate"),
    )  # fmt: skip
    config = ContrastConfig(shift=False, interaction=False, permutations=200, nulls=())
    pooled = measure_contrasts(texts, {(DELTA, "delta"): codes_of(x)}, config).filter(pl.col("language") == "pooled")
    crude = (x[cultural].mean(0) - x[~cultural].mean(0)) / x.std(0)
    assert crude.min() > 0.3
    for name, null in (("d_av", 0.0), ("auroc", 0.5), ("log_odds", 0.0)):
        assert pooled[name].mean() == pytest.approx(null, abs=0.06), name
    assert pooled["d_av"].abs().max() < 0.3 and pooled["q"].min() > 0.05


def test_a_real_effect_is_pooled_with_the_weights_of_both_languages(planted) -> None:
    rows = planted[2].filter(
        (pl.col("contrast") == "culture") & (pl.col("dictionary") == str(BASE)) & (pl.col("side_b") == "base")
        & (pl.col("latent") == 1) & (pl.col("null") == "")
    )  # fmt: skip
    en, hi, pooled = (rows.filter(pl.col("language") == one).row(0, named=True) for one in ("en", "hi", "pooled"))
    weights = np.array([one["n_a"] * one["n_b"] / (one["n_a"] + one["n_b"]) for one in (en, hi)])
    for name in ("mean_a", "mean_b", "auroc", "fire_b"):
        assert pooled[name] == pytest.approx(np.average([en[name], hi[name]], weights=weights))
    assert pooled["n_b"] == en["n_b"] + hi["n_b"] and pooled["d_lo"] < pooled["d_av"] < pooled["d_hi"]
    assert pooled["d_hi"] - pooled["d_lo"] < en["d_hi"] - en["d_lo"]


def test_intervals_cover_under_clustering_and_zero_inflation() -> None:
    """Values shared within documents: about 95% of intervals hold the true d (here known from a large sample)."""
    rng = np.random.default_rng(9)

    def draw(documents: int, lift: float) -> np.ndarray:
        fires = rng.random(documents) < 0.3 + lift
        return np.repeat(fires * rng.lognormal(0.3, 0.4, documents), 4)

    big_a, big_b = draw(200_000, 0.0), draw(200_000, 0.25)
    truth = (big_b.mean() - big_a.mean()) / np.sqrt((big_a.var() + big_b.var()) / 2)
    n, latents = 2 * 60 * 4, 300
    x = np.column_stack([np.concatenate([draw(60, 0.0), draw(60, 0.25)]) for _ in range(latents)])
    texts = make_texts(10, n).with_columns(
        group=pl.Series(["control"] * (n // 2) + ["cultural"] * (n // 2)), language=pl.lit("en"),
        document=pl.Series([f"d{i // 4}" for i in range(n)]), half=pl.lit("estimate"),
    )  # fmt: skip
    config = ContrastConfig(shift=False, interaction=False, permutations=20, nulls=())
    table = measure_contrasts(texts, {(DELTA, "delta"): codes_of(x)}, config).filter(pl.col("language") == "en")
    covered = ((table["d_lo"] < float(truth)) & (table["d_hi"] > float(truth))).mean()
    assert 0.91 < covered < 0.99  # pyright: ignore


def test_one_document_and_tiny_groups_give_nulls_not_a_crash() -> None:
    texts = make_texts(11, 120).with_columns(
        state=pl.when(pl.col("group") == "cultural").then(pl.lit("Goa")).otherwise(None), half=pl.lit("estimate")
    )
    first = int(np.flatnonzero(mask(texts, group="cultural", language="hi"))[0])
    state = texts["state"].to_list()
    state[first] = "सिक्किम"
    texts = texts.with_columns(state=pl.Series(state))
    table = measure_contrasts(texts, {(DELTA, "delta"): codes_of(make_dense(12, 120))},
                              CONFIG.model_copy(update={"shift": False, "interaction": False}))  # fmt: skip
    one = table.filter((pl.col("value") == "सिक्किम") & (pl.col("null") == ""))
    hindi, pooled = (one.filter(pl.col("language") == language) for language in ("hi", "pooled"))
    assert (hindi["n_b"] == 1).all() and hindi["p"].null_count() == hindi.height > 0
    assert hindi["d_av"].null_count() == hindi.height and hindi["few"].all()
    assert one.filter(pl.col("language") == "en").is_empty() and pooled["p"].null_count() == pooled.height


def test_nothing_that_varies_and_float_jitter_have_no_effect() -> None:
    texts = make_texts(13)
    rng = np.random.default_rng(14)
    base = make_dense(15)
    base[:, 0] = 1.0
    chat = (base.astype(np.float32) * (1 + 1e-7 * rng.standard_normal(base.shape) + 1e-7)).astype(np.float32)
    chat[:, 0] = 1.0 + 1e-7
    table = measure_contrasts(texts, {(BASE, "base"): codes_of(base), (BASE, "chat"): codes_of(chat)}, CONFIG)
    shifts = table.filter(pl.col("contrast").is_in(["shift", "interaction"]))
    assert shifts["d_av"].abs().max() < 1e-5 and shifts["d_z"].drop_nulls().abs().max() == 0
    assert (shifts["p"] == 1).all()
    constant = table.filter((pl.col("contrast") == "culture") & (pl.col("latent") == 0))
    assert (constant["d_av"] == 0).all() and (constant["p"] == 1).all() and (constant["auroc"] == 0.5).all()


def test_codes_that_never_fire_have_no_rows() -> None:
    zero = SparseCodes(np.zeros((N, 2), np.int32), np.zeros((N, 2), np.float32), LATENTS)
    config = CONFIG.model_copy(update={"shift": False, "interaction": False})
    table = measure_contrasts(make_texts(), {(DELTA, "delta"): zero}, config)
    assert table.is_empty() and tuple(table.columns) == COLUMNS and table.schema["d_av"] == pl.Float64
    live = {DELTA: np.arange(LATENTS) == 5}
    table = measure_contrasts(make_texts(), {(DELTA, "delta"): codes_of(make_dense(1))}, config, live=live)
    assert set(table["latent"]) == {5}


def test_undefined_contrasts_say_what_to_ask_for() -> None:
    assert defined_contrasts(DELTA, {"delta"}) == ("culture", "facet")
    assert defined_contrasts(DictionaryId("joint", 3, "crosscoder"), {"base", "chat"})[0] == "shift"
    with pytest.raises(UserError, match=r"shift on delta\.layer03.*culture or facet"):
        require_defined("shift", DELTA, {"delta"})
    with pytest.raises(UserError, match=r"interaction on delta\.layer03.*culture"):
        require_defined("interaction", DELTA, {"delta"})
    with pytest.raises(UserError, match="codes of \\['base'\\]"):
        require_defined("shift", BASE, {"base"})
    with pytest.raises(UserError, match="expected one of shift, culture"):
        require_defined("drift", BASE, {"base"})
    codes = {(DELTA, "delta"): codes_of(make_dense(1))}
    with pytest.raises(UserError, match="shift on delta"):
        measure_contrasts(make_texts(), codes, CONFIG)
    culture = CONFIG.model_copy(update={"shift": False, "interaction": False})
    with pytest.raises(UserError, match="found 'caste'"):
        measure_contrasts(make_texts(), codes, culture.model_copy(update={"facets": ("caste",)}))
    with pytest.raises(UserError, match="found only cultural texts"):
        measure_contrasts(make_texts().with_columns(group=pl.lit("cultural")), codes, culture)


def test_a_dictionary_of_both_sides_has_all_contrasts_and_a_crosscoder_has_culture() -> None:
    joint, crosscoder = DictionaryId("joint", 1), DictionaryId("joint", 1, "crosscoder")
    assert defined_contrasts(joint, {"base", "chat"}) == ("shift", "culture", "interaction", "facet")
    assert defined_contrasts(crosscoder, {"joint"}) == ("culture", "facet")
    with pytest.raises(
        UserError, match=r"shift on joint\.layer01\.crosscoder: expected a dictionary with codes of base"
    ):
        require_defined("shift", crosscoder, {"joint"})


def test_a_baseline_is_a_null_in_a_family_of_its_own() -> None:
    texts, real, baseline = make_texts(), DictionaryId("base", 1), DictionaryId("base", 1, "random")
    codes = {(real, "base"): codes_of(make_dense(1)), (real, "chat"): codes_of(make_dense(2))}
    config = ContrastConfig(permutations=50)
    alone = measure_contrasts(texts, codes, config)
    both = measure_contrasts(
        texts, codes | {(baseline, side): codes[real, side] for side in ("base", "chat")}, config
    )
    assert set(both.filter(pl.col("dictionary") == str(baseline))["null"]) == {"random"}
    assert both.filter(pl.col("dictionary") == str(real)).equals(alone)  # q values too


def test_training_texts_stay_out() -> None:
    texts = make_texts().with_columns(split=pl.Series(["train" if i % 3 else "heldout" for i in range(N)]))
    config = CONFIG.model_copy(update={"shift": False, "interaction": False, "facets": ()})
    table = measure_contrasts(texts, {(DELTA, "delta"): codes_of(make_dense(1))}, config)
    pooled = table.filter((pl.col("language") == "pooled") & (pl.col("null") == ""))
    unseen = texts.filter((pl.col("split") == "heldout") & (pl.col("half") == "estimate"))
    assert pooled["n_a"][0] + pooled["n_b"][0] == unseen.height


def test_two_runs_are_equal_and_another_seed_is_not() -> None:
    texts, codes = make_texts(), {(DELTA, "delta"): codes_of(make_dense(1))}
    config = CONFIG.model_copy(update={"shift": False, "interaction": False})
    first, again, other = (measure_contrasts(texts, codes, config, seed) for seed in (1, 1, 2))
    assert first.equals(again) and not first["p"].equals(other["p"])
    assert first.filter(pl.col("null") == "")["d_av"].equals(other.filter(pl.col("null") == "")["d_av"])


def test_topic_alone_is_gone_within_topics_and_a_script_latent_is_marked() -> None:
    """Latent 0 follows the topic, 1 fires on Hindi only; 2 on culture; 3 as 1, and more on culture."""
    rng = np.random.default_rng(80)
    texts = make_texts(8, 1600)
    cultural, hindi = mask(texts, group="cultural"), mask(texts, language="hi")
    topic = rng.random(1600) < np.where(cultural, 0.8, 0.2)
    x = (rng.random((1600, 4)) < 0.2) * rng.lognormal(size=(1600, 4))
    x[:, 0] = topic * (1 + rng.random(1600))
    x[:, 1] = hindi * (1 + rng.random(1600))
    x[:, 2] = np.where(cultural, 3 + rng.random(1600), x[:, 2])
    x[:, 3] = hindi * (1 + 2 * cultural + rng.random(1600))
    config = ContrastConfig(shift=False, interaction=False, permutations=200, within="topic")
    named = texts.with_columns(topic=pl.Series(np.where(topic, "food", "news")))
    table = measure_contrasts(named, {(BASE, "base"): codes_of(x)}, config, 1)
    rows = table.filter((pl.col("language") == "pooled") & (pl.col("null") == "")).sort("latent")
    assert (rows["d_av"] > 0.8).to_list() == [True, False, True, True]
    assert abs(rows["d_within"][0]) < 0.15  # of more than 0.8
    assert rows["d_within"][2] > 0.8
    assert rows["within_lo"][2] < rows["d_within"][2] < rows["within_hi"][2]
    assert rows["script_only"].to_list() == [False, True, False, False]
    assert [abs(rows["language_auroc"][latent] - 0.5) for latent in (1, 3)] == pytest.approx([0.5, 0.5])
    # Lengths are random here, so holding them equal changes nothing; and p_max is at its floor for what is planted.
    assert rows["d_partial"].to_list() == pytest.approx(rows["d_av"].to_list(), abs=0.05)
    assert [rows["p_max"][latent] for latent in (0, 2, 3)] == pytest.approx([1 / 201] * 3) and rows["p_max"][1] > 0.05
    with pytest.raises(UserError, match=r"contrasts\.within: expected a column of the texts, found 'template'"):
        measure_contrasts(named, {(BASE, "base"): codes_of(x)}, config.model_copy(update={"within": "template"}), 1)


def test_languages_that_differ_are_heterogeneous_and_those_that_do_not_are_not() -> None:
    texts = make_texts(9, 1600)
    cultural, hindi = mask(texts, group="cultural"), mask(texts, language="hi")
    rng = np.random.default_rng(9)
    x = rng.lognormal(size=(1600, 2))
    x[:, 0] += 2 * cultural * np.where(hindi, -1, 1) + 2
    x[:, 1] += 2 * cultural
    config = ContrastConfig(shift=False, interaction=False, permutations=100)
    table = measure_contrasts(texts, {(BASE, "base"): codes_of(x)}, config, 1)
    rows = table.filter((pl.col("language") == "pooled") & (pl.col("null") == "")).sort("latent")
    assert rows["het_p"][0] < 1e-6 and rows["het_p"][1] > 0.01
    assert table.filter(pl.col("language") != "pooled")["het_p"].is_null().all()


def test_p_max_is_never_below_p_and_counts_all_dictionaries_of_the_family(planted) -> None:
    table = planted[2].filter(pl.col("p_max").is_not_null())
    assert (table["p_max"] >= table["p"] - 1 / 201).all() and (table["p_max"] >= 1 / 201).all()
    texts, dense, _ = planted
    keys = ["dictionary", "side_b", "language", "latent", "null"]
    culture = ContrastConfig(shift=False, interaction=False, permutations=200)
    for key in ((BASE, "base"), (DELTA, "delta")):  # whichever comes first: each has the others' largest in its own
        alone = measure_contrasts(texts, {key: codes_of(dense[key])}, culture, seed=4)
        both = table.filter(pl.col("contrast") == "culture").join(alone, on=keys, suffix="_alone")
        assert both.height == alone.filter(pl.col("p_max").is_not_null()).height
        assert (both["p_max"] >= both["p_max_alone"]).all() and (both["p_max"] > both["p_max_alone"]).any()


def test_a_latent_that_is_silent_on_the_estimation_half_still_has_its_row() -> None:
    """The winner's curse at its worst: what was chosen on one half and never fires on the other counts as 0."""
    texts = make_texts(12)
    select, cultural = mask(texts, half="select"), mask(texts, group="cultural")
    x = make_dense(12)
    x[:, 0] = (2 + np.random.default_rng(1).random(N)) * (select & cultural)
    config = ContrastConfig(shift=False, interaction=False, permutations=200, nulls=())
    table = measure_contrasts(texts, {(BASE, "base"): codes_of(x)}, config, 1)
    row = table.filter((pl.col("latent") == 0) & (pl.col("language") == "pooled")).row(0, named=True)
    assert row["d_av_select"] > 1 and row["q_select"] < 0.01
    assert (row["d_av"], row["p"], row["fire_b"]) == (0.0, 1.0, 0.0)
    assert row["d_lo"] is None  # nothing fired, so nothing is known of it


def test_many_values_are_measured_in_blocks_with_the_same_result(monkeypatch) -> None:
    texts = make_texts(13)
    codes = {(BASE, "base"): codes_of(make_dense(13))}
    config = ContrastConfig(shift=False, culture=False, interaction=False, facets=("state",), facet_permutations=40)
    whole = measure_contrasts(texts, codes, config, 2)
    monkeypatch.setattr(comparisons, "STATISTICS_BYTES", 1)  # one value at a time
    blocks = measure_contrasts(texts, codes, config, 2)
    pooled = ("p", "q", "p_select", "q_select")  # pools of the null are those of a block
    assert whole.drop(pooled).equals(blocks.drop(pooled))
    assert np.corrcoef(whole["p"].to_numpy(), blocks["p"].to_numpy())[0, 1] > 0.999
