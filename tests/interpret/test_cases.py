"""Which texts a case holds: what a labeller saw never judges, and silent texts are matched."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from antar.interpret.cases import CaseMaker
from antar.interpret.config import InterpretConfig, PredictionConfig, ValidationConfig
from antar.interpret.corpus import PREDICT, SELECT, TextCorpus
from antar.interpret.features import Firing
from antar.interpret.types import Claim, Label, ShownText
from antar.interpret.words import normalise, tokens

CFG = InterpretConfig.model_validate({"examples": 12, "top_share": 0.5, "hard_negatives": 6})


@pytest.fixture(scope="module")
def maker(world: Any) -> CaseMaker:
    codes, decoder_nd = world.codes["base.layer02"], world.decoders["base.layer02"]
    # Texts that stand twice, under two documents and in both halves, must judge nothing.
    texts = world.texts["text"].to_list()
    texts[2::24] = texts[::24]
    frame = world.texts.with_columns(text=pl.Series(texts))
    firing = Firing.of("base.layer02", codes, decoder_nd, np.arange(codes.n_latents), frame.height)
    return CaseMaker(TextCorpus.build(frame, 7), firing, 7)


def label(feature: str) -> Label:
    return Label(feature, True, "diwali", ("diwali",), 1, None, "en", (), "")


def claim(feature: str) -> Claim:
    return Claim(feature, "diwali", ("diwali",), 1)


def normals(texts: tuple[ShownText, ...]) -> set[str]:
    return {normalise(text.text) for text in texts}


def test_what_a_labeller_saw_never_judges(maker: CaseMaker) -> None:
    row_of = {text_id: row for row, text_id in enumerate(maker.corpus.text_ids)}
    seen, judging = set(), set()
    for latent in maker.firing.live_latents:
        feature = f"f{latent}"
        evidence = maker.llm_evidence(feature, int(latent), CFG)
        shown = evidence.examples + evidence.background + evidence.hard
        assert {int(maker.corpus.parts_t[row_of[text.text_id]]) for text in shown} == {SELECT}
        assert len(normals(shown)) == len(shown)
        seen |= normals(shown)
        checked = maker.validation(label(feature), int(latent), ValidationConfig())
        judging |= normals(checked.firing + checked.silent + checked.spare_firing + checked.spare_silent)
        predicted = maker.prediction(claim(feature), int(latent), PredictionConfig())
        asked = maker.saebench(claim(feature), int(latent))
        assert predicted is not None
        assert asked is not None
        judging |= normals(predicted.texts + asked.texts)
    assert len(seen) > 100
    assert len(judging) > 100
    assert not seen & judging


def test_examples_cover_the_range_and_hard_texts_fire_a_neighbour(maker: CaseMaker) -> None:
    latent = 12
    evidence = maker.llm_evidence("f", latent, CFG)
    rows, values = maker.firing.texts_of(latent)
    in_select = values[maker.corpus.parts_t[rows] == SELECT]
    strengths = [text.activation for text in evidence.examples]
    assert len(strengths) == CFG.examples
    assert strengths == sorted(strengths, reverse=True)
    assert strengths[:6] == pytest.approx(in_select[:6])
    # The rest is one or two of each fifth of what lies below.
    fifths = np.array_split(in_select[6:], 5)
    counts = [sum(part.min() <= s <= part.max() for s in strengths[6:]) for part in fifths]
    assert min(counts) >= 1
    assert max(counts) <= 2
    near = maker.firing.fires_any(maker.firing.nearest(latent, CFG.prediction.neighbours))
    own = maker.firing.fires_any(np.array([latent]))
    row_of = {text_id: row for row, text_id in enumerate(maker.corpus.text_ids)}
    hard = [row_of[text.text_id] for text in evidence.hard]
    assert len(hard) == CFG.hard_negatives
    assert near[hard].all()
    assert not own[hard].any()
    assert len(evidence.background) == CFG.examples
    assert maker.llm_evidence("f", latent, CFG) == evidence


def test_with_all_examples_on_top_they_are_the_strongest(maker: CaseMaker) -> None:
    cfg = InterpretConfig(examples=9, top_share=1)
    evidence = maker.llm_evidence("f", 13, cfg)
    rows, values = maker.firing.texts_of(13)
    assert [t.activation for t in evidence.examples] == pytest.approx(
        values[maker.corpus.parts_t[rows] == SELECT][:9]
    )
    assert evidence.hard == ()


def test_hard_texts_are_matched_in_language(maker: CaseMaker) -> None:
    # A theme's latent fires in one language only.
    for latent, language in ((0, "en"), (1, "hi")):
        evidence = maker.llm_evidence(f"f{latent}", latent, CFG)
        assert {text.language for text in evidence.background + evidence.hard} <= {language}


def test_prediction_negatives_are_half_hard_and_matched(maker: CaseMaker) -> None:
    for latent in (0, 1, 12, 14):
        case = maker.prediction(claim(f"f{latent}"), latent, PredictionConfig())
        assert case is not None
        firing = [text for text, fires in zip(case.texts, case.fires, strict=True) if fires]
        silent = [text for text, fires in zip(case.texts, case.fires, strict=True) if not fires]
        assert len(firing) == len(silent)
        assert sum(case.hard) == len(firing) // 2 or latent < 12
        counts = [sorted(text.language for text in side) for side in (firing, silent)]
        assert counts[0] == counts[1]
        lengths = [np.mean([len(tokens(text.text)) for text in side]) for side in (firing, silent)]
        assert lengths[0] == pytest.approx(lengths[1], abs=0.6)


def bilingual(world: Any) -> CaseMaker:
    """Six latents that fire on a theme in both languages, and six near them that fire on it in English alone."""
    rng = np.random.default_rng(3)
    theme, language = world.texts["theme"].to_numpy(), world.texts["language"].to_numpy()
    strength = rng.uniform(0.5, 2, (len(theme), 12))
    its = np.stack([theme == one for one in dict.fromkeys(theme.tolist())], axis=1)
    fires_nl = np.concatenate([its, its & (language == "en")[:, None]], axis=1)
    # The last theme's latent fires on all Hindi texts but a few, so that silent ones run out.
    fires_nl[:, 5] |= (language == "hi") & (np.arange(len(theme)) % 40 > 0)
    rows, columns = np.nonzero(fires_nl.T)[::-1]
    offsets = np.concatenate([[0], np.cumsum(fires_nl.sum(axis=0))])
    decoder = rng.normal(size=(12, 16))
    decoder[6:] = decoder[0] + 0.3 * rng.normal(size=(6, 16))
    unit = decoder / np.linalg.norm(decoder, axis=1, keepdims=True)
    firing = Firing(rows, strength[rows, columns], offsets, len(theme), unit.astype(np.float32), np.arange(12))
    return CaseMaker(TextCorpus.build(world.texts, 7), firing, 7)


def test_each_language_is_one_to_one_where_hard_or_silent_texts_run_out(world: Any) -> None:
    maker = bilingual(world)
    short = 0
    for latent in range(6):
        for name in range(5):
            case = maker.prediction(claim(f"{latent} {name}"), latent, PredictionConfig())
            assert case is not None
            sides = [[t.language for t, fires in zip(case.texts, case.fires, strict=True) if fires == side]
                     for side in (True, False)]  # fmt: skip
            assert sorted(sides[0]) == sorted(sides[1])
            short += sum(case.hard) < sum(case.fires) // 2 or sum(case.fires) < PredictionConfig().texts
    assert short >= 5


def test_saebench_is_four_among_ten(maker: CaseMaker) -> None:
    row_of = {text_id: row for row, text_id in enumerate(maker.corpus.text_ids)}
    places = np.zeros(14)
    for latent in maker.firing.live_latents:
        for name in range(10):
            case = maker.saebench(claim(f"{latent} {name}"), int(latent))
            assert case is not None
            assert (len(case.texts), sum(case.fires)) == (14, 4)
            assert len(normals(case.texts)) == 14
            rows = np.array([row_of[text.text_id] for text in case.texts])
            assert (maker.corpus.parts_t[rows] == PREDICT).all()
            assert tuple(maker.firing.fires_any(np.array([latent]))[rows]) == case.fires
            all_rows, values = maker.firing.texts_of(int(latent))
            strongest = values[maker.corpus.parts_t[all_rows] == PREDICT][:2]
            assert sorted(text.activation for text in case.texts)[-2:] == pytest.approx(sorted(strongest))
            places += case.fires
    # Shuffled: a firing text may stand anywhere.
    assert (places > 0).all()


def test_saebench_weighs_by_the_square_of_activation(world: Any) -> None:
    corpus = TextCorpus.build(world.texts, 7)
    rows = corpus.once(np.flatnonzero(corpus.parts_t == PREDICT))[:5]
    values = np.array([9.0, 8.0, 3.0, 2.0, 1.0])
    unit = np.eye(2, 4, dtype=np.float32)
    firing = Firing(rows, values, np.array([0, 5, 5]), world.texts.height, unit, np.array([0, 1]))
    maker = CaseMaker(corpus, firing, 7)
    drawn = np.zeros(3)
    for i in range(600):
        case = maker.saebench(claim(f"f{i}"), 0)
        assert case is not None
        strengths = {text.activation for text in case.texts}
        drawn += [value in strengths for value in (3.0, 2.0, 1.0)]
    # Two without replacement, weights 9, 4 and 1: who is left out has P = Σ over the two orders of the others.
    share = np.array([9, 4, 1]) / 14
    left_out = [
        sum(share[a] * share[b] / (1 - share[a]) for a, b in ((i, j), (j, i))) for i, j in ((1, 2), (0, 2), (0, 1))
    ]
    assert drawn / 600 == pytest.approx(1 - np.array(left_out), abs=0.06)


def test_saebench_needs_its_texts(maker: CaseMaker, world: Any) -> None:
    few = Firing(
        maker.firing.rows[:3], maker.firing.values[:3], np.array([0, 3, 3]), world.texts.height,
        maker.firing.unit_ld[:2], np.array([0, 1]),
    )  # fmt: skip
    assert CaseMaker(maker.corpus, few, 7).saebench(claim("f"), 0) is None
