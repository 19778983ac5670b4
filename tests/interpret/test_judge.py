"""Verdicts and predictions on hand-made texts, and the cases that they are put."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from antar.interpret.cases import CaseMaker, quantile_sample, wrong_claim, wrong_claims
from antar.interpret.config import InterpretConfig, KeywordConfig, PredictionConfig, ValidationConfig
from antar.interpret.corpus import PREDICT, REVISE, VALIDATE, TextCorpus
from antar.interpret.features import Firing
from antar.interpret.judge import KeywordPredictor, KeywordValidator, balanced_accuracy_interval, wilson
from antar.interpret.keywords import KeywordModel
from antar.interpret.llm.config import LlmWorker
from antar.interpret.types import Claim, Label, PredictionCase, ShownText
from antar.interpret.words import telling_words
from antar.interpret.workers import live_model

CFG = ValidationConfig()


@pytest.fixture(scope="module")
def corpus(world) -> TextCorpus:
    return TextCorpus.build(world.texts, 7)


@pytest.fixture(scope="module")
def maker(world, corpus: TextCorpus) -> CaseMaker:
    codes, decoder = world.codes["base.layer02"], world.decoders["base.layer02"]
    return CaseMaker(corpus, Firing.of("base.layer02", codes, decoder, np.arange(18), len(corpus.texts)), 7)


@pytest.fixture(scope="module")
def validator(corpus: TextCorpus) -> KeywordValidator:
    return KeywordValidator(KeywordModel.fit(corpus, KeywordConfig(), 20, 7), CFG)


def label(keywords: tuple[str, ...], latent: int = 6, needed: int = 1) -> Label:
    return Label(f"base.layer02/{latent}", True, " · ".join(keywords), keywords, needed, None, "en", (), "")


def test_a_right_label_is_kept(maker: CaseMaker, validator: KeywordValidator) -> None:
    case = maker.validation(label(("chai", "kettle", "ginger")), 6, CFG)
    (verdict,) = validator.validate([case])
    assert verdict.verdict == "KEEP"
    assert verdict.label == "chai · kettle · ginger"
    assert verdict.balanced_accuracy is not None
    assert verdict.balanced_accuracy > 0.9
    assert set(verdict.evidence) <= {text.text_id for text in case.firing}


def test_a_wrong_label_is_revised_from_texts_that_do_not_judge(maker: CaseMaker, validator: KeywordValidator) -> None:
    case = maker.validation(label(("saree", "silk")), 6, CFG)
    (verdict,) = validator.validate([case])
    assert verdict.verdict == "REVISE"
    assert set(verdict.keywords) & {"chai", "kettle", "ginger"}
    # Without spare texts there is nothing to revise from: the label falls, and its mistakes are the evidence.
    bare = maker.validation(label(("saree", "silk")), 6, CFG)
    (fallen,) = validator.validate([type(bare)(bare.label, bare.firing, bare.silent, (), ())])
    assert fallen.verdict == "INVALIDATE"
    assert fallen.label == "saree · silk"
    assert set(fallen.evidence) <= {text.text_id for text in bare.firing + bare.silent}
    held = [text for text in bare.firing if text.text_id in fallen.evidence]
    assert all("saree" not in text.text and "silk" not in text.text for text in held)


def test_a_feature_without_a_theme_is_invalidated(maker: CaseMaker, validator: KeywordValidator) -> None:
    cases = [maker.validation(label(("saree",), latent), latent, CFG) for latent in range(12, 18)]
    assert [verdict.verdict for verdict in validator.validate(cases)].count("INVALIDATE") >= 5


def test_a_label_that_speaks_of_every_text_is_not_kept(maker: CaseMaker, validator: KeywordValidator) -> None:
    case = maker.validation(label(("chai",), needed=0), 6, CFG)
    case = type(case)(case.label, case.firing, case.silent, (), ())
    (verdict,) = validator.validate([case])
    assert verdict.balanced_accuracy == 0.5
    assert verdict.verdict == "INVALIDATE"


def test_too_few_texts_cannot_confirm(maker: CaseMaker, validator: KeywordValidator) -> None:
    case = maker.validation(label(("chai",)), 6, CFG)
    (verdict,) = validator.validate([type(case)(case.label, case.firing[:4], case.silent, (), ())])
    assert verdict.verdict == "INVALIDATE"
    assert verdict.balanced_accuracy is None
    assert "4 held-out texts" in verdict.reason


def test_cases_hold_texts_of_their_part_and_the_truth(maker: CaseMaker, corpus: TextCorpus, world) -> None:
    row_of = {text_id: row for row, text_id in enumerate(corpus.text_ids)}
    dense = world.codes["base.layer02"].csr().toarray()
    for latent in (0, 7, 13):
        case = maker.validation(label(("x",), latent), latent, CFG)
        prediction = maker.prediction(Claim(f"base.layer02/{latent}", "x", ("x",), 1), latent, PredictionConfig())
        assert prediction is not None
        groups = [
            (case.firing, VALIDATE, True), (case.silent, VALIDATE, False),
            (case.spare_firing, REVISE, True), (case.spare_silent, REVISE, False),
            ([t for t, f in zip(prediction.texts, prediction.fires, strict=True) if f], PREDICT, True),
            ([t for t, f in zip(prediction.texts, prediction.fires, strict=True) if not f], PREDICT, False),
        ]  # fmt: skip
        for texts, part, fires in groups:
            rows = [row_of[text.text_id] for text in texts]
            assert rows
            assert (corpus.parts_t[rows] == part).all()
            assert ((dense[rows, latent] > 0) == fires).all()
            assert [text.activation for text in texts] == pytest.approx(list(dense[rows, latent]))
        strengths = [text.activation for text in case.firing]
        assert strengths == sorted(strengths, reverse=True)
        assert sum(prediction.fires) * 2 == len(prediction.fires)
        near = maker.firing.fires_any(maker.firing.nearest(latent, 5))
        hard = [row_of[t.text_id] for t, is_hard in zip(prediction.texts, prediction.hard, strict=True) if is_hard]
        assert len(hard) == sum(prediction.fires) // 2
        assert near[hard].all()


def test_neighbours_are_those_of_the_highest_cosine(maker: CaseMaker, world) -> None:
    decoder = world.decoders["base.layer02"]
    unit = decoder / np.linalg.norm(decoder, axis=1, keepdims=True)
    for latent in range(4):
        naive = sorted((j for j in range(18) if j != latent), key=lambda j: -float(unit[j] @ unit[latent]))
        assert maker.firing.nearest(latent, 5).tolist() == naive[:5]
    assert len(maker.firing.nearest(0, 99)) == 17


def test_positives_come_evenly_from_the_quantiles() -> None:
    chosen = quantile_sample(1000, 20, 5, np.random.default_rng(0))
    assert np.bincount(chosen // 200).tolist() == [4, 4, 4, 4, 4]
    assert quantile_sample(7, 20, 5, np.random.default_rng(0)).tolist() == list(range(7))
    for n, wanted, quantiles in ((21, 20, 5), (30, 7, 4), (23, 20, 10)):
        drawn = quantile_sample(n, wanted, quantiles, np.random.default_rng(1))
        assert len(set(drawn)) == wanted


def telling(claims: list[Claim]) -> dict[str, set[str]]:
    return telling_words({claim.feature: (claim.keywords, claim.label) for claim in claims})


def test_sentences_share_common_words_and_are_still_of_different_things() -> None:
    claims = [
        Claim(f"f/{i}", f"Texts about {word} in India.", (), 1)
        for i, word in enumerate(["lamps", "buses", "rain", "tea"])
    ]
    wrong = wrong_claims(claims, 3)
    assert all(wrong[claim.feature] is not None and wrong[claim.feature].label != claim.label for claim in claims)


def test_a_wrong_claim_is_another_features_and_shares_no_word() -> None:
    claims = [Claim(f"base.layer02/{i}", f"w{i % 3}", (f"w{i % 3}", f"only{i}"), 1) for i in range(9)]
    for claim in claims:
        wrong = wrong_claim(claim, claims, 3, telling(claims))
        assert wrong is not None
        assert wrong.feature == claim.feature
        assert not set(wrong.keywords) & set(claim.keywords)
    assert wrong_claim(claims[0], [claims[0], claims[3]], 3, telling(claims)) is None
    assert wrong_claim(claims[0], [], 3, telling(claims)) is None


def test_the_predictor_reads_label_and_text_alone() -> None:
    texts = tuple(ShownText(f"t{i}", text, "hi", 0.0) for i, text in enumerate(["चाय और अदरक", "केतली", "बस"]))
    claim = Claim("f", "चाय · अदरक", ("चाय", "अदरक"), 2)
    case = PredictionCase(claim, texts, (False,) * 3, (False,) * 3, wrong_label=False)
    flipped = PredictionCase(claim, texts, (True,) * 3, (True,) * 3, wrong_label=True)
    (answers,), (again,) = KeywordPredictor().predict([case]), KeywordPredictor().predict([flipped])
    assert [(a.predicted, a.score) for a in answers] == [(True, 1.0), (False, 0.0), (False, 0.0)]
    assert again == answers


def test_wilson_is_scipys() -> None:
    for successes, n in ((0, 5), (3, 5), (20, 20), (7, 40)):
        theirs = binomtest(successes, n).proportion_ci(method="wilson")
        assert wilson(successes, n) == pytest.approx((theirs.low, theirs.high))


def test_the_interval_of_balanced_accuracy_covers() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(1000):
        value, low, high = balanced_accuracy_interval(rng.binomial(12, 0.8), 12, rng.binomial(12, 0.6), 12)
        assert 0 <= low <= value <= high <= 1
        inside += low <= 0.7 <= high
    assert 0.93 <= inside / 1000 <= 0.99


def test_an_llm_without_an_endpoint_gives_way_to_keywords_and_a_bad_one_is_refused() -> None:
    cfg = InterpretConfig.model_validate({"labeller": "keywords", "validator": {"kind": "llm", "model": "Qwen3"}})
    assert cfg.labeller.kind == "keywords"
    assert cfg.validator.kind == "llm"
    assert live_model(cfg.labeller) is None
    assert live_model(cfg.validator) is None
    served = {"kind": "llm", "model": "Q", "base_url": "http://127.0.0.1:1/v1/"}
    asked = live_model(InterpretConfig.model_validate({"labeller": served}).labeller)
    assert isinstance(asked, LlmWorker)
    assert [endpoint.base_url for endpoint in asked.base_url] == ["http://127.0.0.1:1/v1"]
    for bad, reason in (
        ({"base_url": "127.0.0.1:8000"}, "an address such as"),
        ({"base_url": "http://me:secret@host/v1"}, "keys come from the environment"),
        ({"base_url": "http://host/v1?key=1"}, "keys come from the environment"),
        ({"base_url": ["http://host/v1", "http://host/v1"]}, "each endpoint once"),
        ({"extra_body": {"temperature": 1}}, "does not set itself"),
        ({"api_key": "x"}, "Extra inputs"),
    ):
        with pytest.raises(ValueError, match=reason):
            InterpretConfig.model_validate({"labeller": served | bad})
    with pytest.raises(ValueError, match="labeller"):
        InterpretConfig.model_validate({"labeller": "oracle"})
