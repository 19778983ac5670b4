"""The sample: even over its strata, seeded, with wrong labels that are wrong; never over anybody's work."""

from __future__ import annotations

import sqlite3
from collections import Counter

import polars as pl
import pytest
import regex

from antar.core.errors import UserError
from antar.people.config import PeopleConfig
from antar.people.draw import cut
from antar.people.queue import items_for, progress_of
from antar.people.schema import SHEET


def test_features_come_evenly_from_sites_verdicts_and_effects(sheets, tmp_path):
    sheet = sheets.draw(tmp_path, cfg=PeopleConfig(features=26, wrong_share=0.1, repeat_share=0, examples=4))
    own = [row for row in sheets.keys(sheet.path).values() if row["role"] == "own"]
    assert Counter(row["site"] for row in own) == {"base.layer02": 12, "chat.layer02": 12, "delta.layer02": 2}
    for site in ("base.layer02", "chat.layer02"):
        of_site = [row for row in own if row["site"] == site]
        assert set(Counter(row["verdict"] for row in of_site).values()) == {3}
        # Of three features with one verdict, one or two have the small effect, which one in five has.
        effects = Counter((row["verdict"], row["effect"]) for row in of_site)
        assert all(effects[verdict, "small"] >= 1 for verdict in ("KEEP", "REVISE", "INVALIDATE", ""))
    assert (sheet.own, sheet.wrong_labels, sheet.repeats) == (26, 3, 0)


def test_wrong_labels_are_other_features_and_share_nothing_with_the_right_one(sheets, sheet, frames):
    rows = sheets.keys(sheet)
    own = {row["feature"] for row in rows.values() if row["role"] == "own"}
    wrong = [row for row in rows.values() if row["role"] == "wrong_label"]
    labels = dict(frames[0].select("feature", "label").iter_rows())
    languages = dict(frames[0].select("feature", "language").iter_rows())
    texts_of = {
        feature: set(part["row"]) for (feature,), part in frames[1].partition_by("feature", as_dict=True).items()
    }
    assert len(wrong) == 6
    assert {row["verdict"] for row in wrong} == {""}  # nobody judged that label of that feature
    for row in wrong:
        assert row["feature"] not in own
        assert row["label"] == labels[row["label_of"]]
        assert not set(regex.findall(r"\w+", row["label"])) & set(regex.findall(r"\w+", labels[row["feature"]]))
        assert languages[row["label_of"]] == languages[row["feature"]]
        assert not texts_of[row["label_of"]] & texts_of[row["feature"]]


def test_repeats_are_own_items_again_far_from_the_first_and_in_another_order_of_texts(sheets, sheet):
    rows = sheets.keys(sheet)
    repeats = [row for row in rows.values() if row["role"] == "repeat"]
    assert len(repeats) == 3
    for who in ("asha", "ravi"):
        order = progress_of(sheet, who).order
        assert sorted(order) == sorted(rows)
        for row in repeats:
            first = rows[row["repeats"]]
            assert (first["role"], first["feature"], first["label"]) == ("own", row["feature"], row["label"])
            assert order.index(row["item"]) - order.index(row["repeats"]) > len(order) // 3 - 1
    items = {item.item: item for item in items_for(sheet, "asha")}
    orders = [(items[row["item"]].texts, items[row["repeats"]].texts) for row in repeats]
    assert all(sorted(map(str, again)) == sorted(map(str, first)) for again, first in orders)
    assert any(again != first for again, first in orders)


def test_what_a_person_sees_says_nothing_of_the_feature_and_shows_no_text_that_the_labeller_saw(
    sheets, sheet, frames
):
    seen = repr(items_for(sheet, "asha"))
    for told in ("layer02", "word", "updesh", "KEEP", "judge", "festival"):
        assert told not in seen
    select = {frames[2]["text"][row] for row in frames[1].filter(pl.col("pool") == "select")["row"]}
    for item in items_for(sheet, "asha"):
        assert len(item.texts) == sheets.cfg.examples
        assert not {text.text for text in item.texts} & select


def test_order_is_each_persons_own_and_the_same_draw_gives_the_same_items(sheets, sheet, tmp_path):
    asha, ravi = items_for(sheet, "asha"), items_for(sheet, "ravi")
    assert [i.item for i in asha] != [i.item for i in ravi]
    again = sheets.draw(tmp_path / "again").path
    assert items_for(again, "asha") == asha
    assert items_for(sheets.draw(tmp_path / "other", seed=4).path, "asha") != asha


def test_named_features_are_drawn_and_unknown_ones_refused(sheets, tmp_path):
    drawn = sheets.draw(tmp_path, only=["base.layer02/3", "delta.layer02/1", "base.layer02/3"])
    own = [row["feature"] for row in sheets.keys(drawn.path).values() if row["role"] == "own"]
    assert sorted(own) == ["base.layer02/3", "delta.layer02/1"]
    with pytest.raises(UserError, match=r"found 'base.layer02/99' \(1 such\)"):
        sheets.draw(tmp_path, only=["base.layer02/99"])  # it has no label


def test_with_too_few_features_the_shares_stay(sheets, frames, tmp_path):
    drawn = sheets.draw(tmp_path, cfg=PeopleConfig(features=500, examples=4))
    # 62 features have labels: 56 under their own, and 10% of that many others under a wrong one.
    assert (drawn.own, drawn.wrong_labels, drawn.repeats) == (56, 6, 6)


def test_a_sheet_with_work_is_never_drawn_over_and_an_empty_one_is_drawn_in_place(sheets, sheet):
    before = set(sheets.keys(sheet))
    sheets.draw(sheet.parent, seed=9, annotators=("meera", "ravi"))
    assert set(sheets.keys(sheet)) != before
    item = next(iter(sheets.keys(sheet)))
    sheets.put(sheet, "meera", item, pattern="2")
    kept = sheets.keys(sheet)
    with pytest.raises(UserError, match="found 1 writes; move the file away"):
        sheets.draw(sheet.parent, seed=3)
    assert sheets.keys(sheet) == kept
    assert [path.name for path in sheet.parent.iterdir()] == [SHEET]


@pytest.mark.parametrize("names", [[], ["asha", " asha "], ["  "], ["a\nb"], ["x" * 61]])
def test_names_are_different_printable_and_there(sheets, tmp_path, names):
    with pytest.raises(UserError, match="expected"):
        sheets.draw(tmp_path, annotators=names)
    assert not (tmp_path / SHEET).exists()


def test_it_is_one_file_in_wal_mode(sheet):
    database = sqlite3.connect(sheet)
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    database.close()


@pytest.mark.parametrize("text", ["नमस्ते क्षत्रिय " * 20, "👩‍👩‍👧‍👦" * 30, "e\u0301" * 200, "தமிழ் " * 50, "short"])
def test_a_text_is_never_cut_inside_a_grapheme(text):
    whole = regex.findall(r"\X", text)
    for limit in range(50, 60):
        shown = cut(text, limit)
        assert len(shown) <= limit
        if len(text) <= limit:
            assert shown == text
        else:
            kept = regex.findall(r"\X", shown.removesuffix("…"))
            assert kept == whole[: len(kept)]
            assert shown.endswith("…")
