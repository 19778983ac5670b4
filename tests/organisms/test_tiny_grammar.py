"""The grammar: what a reader of the probe texts may rely on."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

import numpy as np
import pytest

from antar.core.seeds import numpy_rng
from antar.organisms.config import TinyConfig
from antar.organisms.grammar import LANGUAGES, Speaker, continuation, load_lexicon
from antar.organisms.tiny_texts import ProbeText, probe_texts

LEXICON = load_lexicon()
CONCEPTS = {concept.name: concept for concept in LEXICON.concepts}
CONTROLS = {control.name: control for control in LEXICON.controls}


@pytest.fixture(scope="module")
def texts() -> list[ProbeText]:
    return probe_texts(TinyConfig(), LEXICON)


def says(text: str, form: str) -> bool:
    """Does `text` hold `form` as whole words, whatever its case?"""
    return (
        re.search(rf"(?<![\w\u0900-\u0963]){re.escape(form)}(?![\w\u0900-\u0963])", text, re.IGNORECASE) is not None
    )


def test_lexicon_is_24_concepts_in_six_categories_and_twelve_controls():
    assert [len(members) for members in LEXICON.categories.values()] == [4] * 6
    assert len(CONCEPTS) == 24
    assert len(CONTROLS) == 12
    assert LEXICON.n_items > 300
    for subject in LEXICON.subjects:
        for language in LANGUAGES:
            wording = subject.wording[language]
            assert len(set(wording.forms)) == 3
            assert (wording.after is not None) == subject.is_cultural


def test_no_form_is_shared_and_every_attribute_is_its_own():
    for language in LANGUAGES:
        wordings = [subject.wording[language] for subject in LEXICON.subjects]
        forms = [form.lower() for wording in wordings for form in wording.forms]
        attributes = [a for wording in wordings for a in (wording.before, wording.after) if a]
        assert len(set(forms)) == len(forms)
        assert len(set(attributes)) == len(attributes)


def test_before_and_after_differ_in_their_first_word():
    # The change must come first in a continuation: later words are read off the first ones.
    for concept in LEXICON.concepts:
        for wording in concept.wording.values():
            assert wording.after is not None
            assert wording.before.split()[0] != wording.after.split()[0]


def test_languages_have_the_same_frames_and_fillers():
    en, hi = (LEXICON.frames[language] for language in LANGUAGES)
    for part in ("frames", "who", "when", "where", "tails"):
        assert len(getattr(en, part)) == len(getattr(hi, part)) == len(set(getattr(hi, part)))
    for frame_en, frame_hi in zip(en.frames, hi.frames, strict=True):
        slots_en, slots_hi = (sorted(re.findall(r"{(\w+)}", frame)) for frame in (frame_en, frame_hi))
        assert slots_en == slots_hi


def test_thousands_of_distinct_texts_as_many_controls_as_cultural(texts: list[ProbeText]):
    assert len({text.text for text in texts}) == len({text.text_id for text in texts}) == len(texts) > 5000
    counts = Counter((text.language, text.group) for text in texts)
    assert len(set(counts.values())) == 1
    per_concept = Counter((text.concept, text.language) for text in texts if text.concept)
    assert set(per_concept.values()) == {TinyConfig().probes_per_concept}


def test_cultural_texts_mention_their_concept_and_only_it(texts: list[ProbeText]):
    for text in texts[::7]:
        if text.concept is None:
            continue
        mine = {
            name
            for name, concept in CONCEPTS.items()
            if any(says(text.text, form) for form in concept.wording[text.language].forms)
        }
        assert mine == {text.concept}, text
        assert text.category == CONCEPTS[text.concept].category


def test_controls_hold_no_form_of_a_concept(texts: list[ProbeText]):
    forms = {
        language: [form for concept in LEXICON.concepts for form in concept.wording[language].forms]
        for language in LANGUAGES
    }
    for text in texts:
        if text.group == "control":
            assert text.concept is None
            assert text.category is None
            assert text.topic in CONTROLS
            assert not [form for form in forms[text.language] if form.lower() in text.text.lower()], text


def test_controls_match_in_length_and_template(texts: list[ProbeText]):
    for language in LANGUAGES:
        words = {
            group: np.array([len(t.text.split()) for t in texts if t.language == language and t.group == group])
            for group in ("cultural", "control")
        }
        assert abs(words["cultural"].mean() - words["control"].mean()) < 0.5
        assert abs(words["cultural"].std() - words["control"].std()) < 0.5
    templates = {
        group: Counter(text.template for text in texts if text.group == group) for group in ("cultural", "control")
    }
    assert templates["cultural"] == templates["control"]


def test_hindi_is_devanagari_and_english_latin_and_all_is_nfc(texts: list[ProbeText]):
    for text in texts:
        letters = [c for c in text.text if unicodedata.category(c)[0] in "LM"]
        script = {"en": "LATIN", "hi": "DEVANAGARI"}[text.language]
        assert all(unicodedata.name(c).startswith(script) for c in set(letters)), text
        assert unicodedata.is_normalized("NFC", text.text)
        assert text.text.endswith("." if text.language == "en" else "।")
        assert "{" not in text.text
        assert "  " not in text.text


def test_documents_hold_one_concept_one_language_and_one_narrator(texts: list[ProbeText]):
    pages: dict[str, list[ProbeText]] = {}
    for text in texts:
        pages.setdefault(text.document, []).append(text)
    assert Counter(len(page) for page in pages.values()) == {2: len(texts) // 2}
    for page in pages.values():
        assert len({(text.concept, text.topic, text.language) for text in page}) == 1
        who = LEXICON.frames[page[0].language].who
        assert any(all(says(text.text, name) for text in page) for name in who), page


def test_probe_texts_follow_from_the_seed_alone(texts: list[ProbeText]):
    assert probe_texts(TinyConfig(shams=("a",)), LEXICON) == texts
    assert probe_texts(TinyConfig(seed=8), LEXICON) != texts


def test_a_speaker_never_repeats_itself_nor_what_is_taken():
    first = Speaker(LEXICON, numpy_rng(0, "test"))
    said = {first.mention(CONCEPTS["holi"], "hi").text for _ in range(300)}
    assert len(said) == 300
    second = Speaker(LEXICON, numpy_rng(0, "test"), taken=said)
    assert said.isdisjoint(second.mention(CONCEPTS["holi"], "hi").text for _ in range(300))


def test_a_continuation_begins_with_the_attribute():
    wording = CONCEPTS["onam"].wording["en"]
    assert continuation(LEXICON, "en", wording.before, 0) == "Flower carpets at the door, they all said."
