"""The controls are what they say: wrong labels cannot be true, right ones cannot be false, and failures count."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import polars as pl
import pytest

from antar.interpret.cases import CaseMaker
from antar.interpret.config import ValidationConfig
from antar.interpret.controls import (
    n_controls,
    right_words,
    validator_rates,
    wrong_control,
    wrong_controls,
    wrong_pairs,
)
from antar.interpret.corpus import REVISE, VALIDATE, TextCorpus
from antar.interpret.features import Firing
from antar.interpret.types import Label
from antar.interpret.words import content_words, normalise, tokens

CFG = ValidationConfig(texts=8, min_texts=4)


@pytest.fixture(scope="module")
def maker(world: Any) -> CaseMaker:
    codes, decoder_nd = world.codes["base.layer02"], world.decoders["base.layer02"]
    firing = Firing.of("base.layer02", codes, decoder_nd, np.arange(codes.n_latents), world.texts.height)
    return CaseMaker(TextCorpus.build(world.texts, 7), firing, 7)


def label(feature: str, text: str | None, language: str, *keywords: str) -> Label:
    return Label(feature, text is not None, text, keywords, 1, None, language, (), "")


def test_wrong_labels_are_of_one_language_and_share_nothing(maker: CaseMaker, world: Any) -> None:
    latents = {f"f{i}": i for i in range(12)}
    labels = {
        f"f{i}": label(f"f{i}", f"Texts about {name.split('/')[0]}", name.split("/")[1], name.split("/")[0])
        for i, name in enumerate(world.themes)
    }
    # Two that share a word, and one that is not labelled: none may be the other's wrong label.
    labels["f2"] = label("f2", "Texts about lamps of Diwali", "en", "eid")
    labels["f4"] = label("f4", None, "en")
    pairs = list(islice(wrong_pairs(list(latents), labels, latents, maker.firing, 3), 100))
    assert sorted(feature for feature, _ in pairs) == sorted(f for f in latents if f != "f4")
    for feature, other in pairs:
        assert feature != other
        assert "f4" not in (feature, other)
        assert labels[feature].language == labels[other].language
        assert {feature, other} != {"f0", "f2"}
    assert pairs == list(islice(wrong_pairs(list(latents), labels, latents, maker.firing, 3), 100))
    assert pairs[:3] == list(islice(wrong_pairs(list(latents), labels, latents, maker.firing, 3), 3))
    assert pairs != list(islice(wrong_pairs(list(latents), labels, latents, maker.firing, 4), 100))
    assert len({other for _, other in pairs}) > len(pairs) // 2


def test_a_label_of_the_same_texts_is_not_wrong(maker: CaseMaker) -> None:
    # Latent 1 fires inside latent 0's texts: its own label is not true of 0, but 0's is true of it.
    rows = np.concatenate([np.arange(100), np.arange(9), np.arange(500, 520)])
    few = Firing(
        rows, np.ones(len(rows), dtype=np.float32), np.array([0, 100, 109, 129]), maker.firing.n_texts,
        maker.firing.unit_ld[:3], np.arange(3),
    )  # fmt: skip
    labels = {"f0": label("f0", "festivals", "en"), "f1": label("f1", "diwali", "en"), "f2": label("f2", "bus", "en")}
    latents = {"f0": 0, "f1": 1, "f2": 2}
    for seed in range(10):
        pairs = dict(list(islice(wrong_pairs(list(labels), labels, latents, few, seed), 3)))
        assert pairs["f1"] == "f2"
    only = {name: labels[name] for name in ("f1", "f0")}
    assert list(islice(wrong_pairs(["f1"], only, latents, few, 0), 3)) == []


def test_a_wrong_control_is_the_features_own_case(maker: CaseMaker) -> None:
    mine, other = label("f0", "diwali", "en", "diwali"), label("f8", "bus", "en", "bus")
    control = wrong_control(maker, "f0", 0, other, CFG)
    case = maker.validation(mine, 0, CFG)
    assert (control.kind, control.label_of) == ("wrong_label", "f8")
    assert (control.case.label.feature, control.case.label.label) == ("f0", "bus")
    assert (control.case.firing, control.case.silent) == (case.firing, case.silent)


def test_wrong_controls_have_texts_to_be_judged_by(maker: CaseMaker, world: Any) -> None:
    latents = {f"f{i}": i for i in range(12)}
    labels = {f"f{i}": label(f"f{i}", name.split("/")[0], name.split("/")[1]) for i, name in enumerate(world.themes)}
    names = list(latents)
    found = wrong_controls(maker, names, labels, latents, 5, CFG)
    pairs = list(islice(wrong_pairs(names, labels, latents, maker.firing, maker.seed), 5))
    assert [(one.case.label.feature, one.label_of) for one in found] == pairs
    # The first of them loses its texts of the judging part, but for too few: another feature takes its place.
    gone = latents[pairs[0][0]]
    lo, hi = maker.firing.offsets[gone : gone + 2]
    judging = np.flatnonzero(maker.corpus.parts_t[maker.firing.rows[lo:hi]] == VALIDATE) + lo
    kept = np.ones(len(maker.firing.rows), dtype=bool)
    kept[judging[CFG.min_texts - 1 :]] = False
    offsets = np.concatenate([[0], np.cumsum(kept)])[maker.firing.offsets]
    firing = Firing(
        maker.firing.rows[kept], maker.firing.values[kept], offsets, maker.firing.n_texts,
        maker.firing.unit_ld, maker.firing.live_latents,
    )  # fmt: skip
    fewer = CaseMaker(maker.corpus, firing, maker.seed)
    assert len(fewer.validation(labels[pairs[0][0]], gone, CFG).firing) == CFG.min_texts - 1
    instead = wrong_controls(fewer, names, labels, latents, 5, CFG)
    assert len(instead) == 5
    assert pairs[0][0] not in {one.case.label.feature for one in instead}
    assert all(min(len(one.case.firing), len(one.case.silent)) >= CFG.min_texts for one in instead)


def test_right_words_hold_where_they_should(maker: CaseMaker) -> None:
    corpus = maker.corpus
    row_of = {text_id: row for row, text_id in enumerate(corpus.text_ids)}
    controls = right_words(corpus, 12, CFG, 3, "en", characters=40)
    assert len(controls) == 12
    assert len({control.case.label.feature for control in controls}) == 12
    assert {control.case.label.language for control in controls} == {"en", "hi"}
    for control in controls:
        case, (word,) = control.case, control.case.label.keywords
        assert case.label.label == f"The text contains the word “{word}”."
        assert case.label.feature == f"word:{word}"
        assert CFG.min_texts <= len(case.firing) == len(case.silent) <= CFG.texts
        for texts, part in ((case.firing + case.silent, VALIDATE), (case.spare_firing + case.spare_silent, REVISE)):
            assert {int(corpus.parts_t[row_of[text.text_id]]) for text in texts} <= {part}
            assert {text.language for text in texts} <= {case.label.language}
            assert len({normalise(text.text) for text in texts}) == len(texts)
        for text in case.firing + case.spare_firing:
            assert word in content_words(tokens(text.text[:40]))
            assert 0.1 <= text.activation <= 1.0
        assert not any(word in normalise(text.text) for text in case.silent + case.spare_silent)
    assert controls == right_words(corpus, 12, CFG, 3, "en", characters=40)
    assert controls[:4] == right_words(corpus, 4, CFG, 3, "en", characters=40)
    hindi = right_words(corpus, 1, CFG, 3, "hi")[0].case.label
    assert hindi.label == f"पाठ में “{hindi.keywords[0]}” शब्द है।"
    assert right_words(corpus, 0, CFG, 3) == []
    assert right_words(corpus, 3, ValidationConfig(min_texts=500), 3) == []


def test_how_many_controls() -> None:
    assert [n_controls(n, 0.1) for n in (0, 1, 90, 900)] == [0, 1, 10, 100]
    assert n_controls(50, 0) == 0


def frame(**verdicts: list[str | None]) -> pl.DataFrame:
    rows = [{"kind": kind, "verdict": verdict} for kind, said in verdicts.items() for verdict in said]
    return pl.DataFrame(rows, schema={"kind": pl.String, "verdict": pl.String})


def test_rates_of_scripted_validators() -> None:
    perfect = validator_rates(frame(right_word=["KEEP"] * 10, wrong_label=["INVALIDATE"] * 5 + ["REVISE"] * 5))
    assert (perfect.true_positive.value, perfect.true_negative.value) == (1.0, 1.0)
    lenient = validator_rates(frame(right_word=["KEEP"] * 10, wrong_label=["KEEP"] * 10))
    assert (lenient.true_positive.value, lenient.true_negative.value) == (1.0, 0.0)
    failing = validator_rates(frame(right_word=["KEEP", None, "REVISE", "KEEP"], wrong_label=[None, "REVISE"]))
    assert failing.as_dict()["true_positive"] == pytest.approx(
        {"value": 0.5, "low": 0.1500, "high": 0.8500, "n": 4, "failed": 1}, abs=1e-3
    )
    assert (failing.true_negative.value, failing.true_negative.n, failing.true_negative.failed) == (0.5, 2, 1)
    none = validator_rates(frame())
    assert none.as_dict()["true_negative"] == {"value": None, "low": None, "high": None, "n": 0, "failed": 0}
