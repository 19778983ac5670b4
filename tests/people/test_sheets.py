"""The annotation sheet: who sees what, and what comes back from a spreadsheet."""

from __future__ import annotations

import csv
import io
import sqlite3
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from antar.core.errors import UserError
from antar.people.agreement import agreement_of_sheet
from antar.people.config import PeopleConfig
from antar.people.queue import SHEET, items_for, make_sheet
from antar.people.sheets import Answer, answers_of, escape_cell, export_csv, import_csv, save_answers

CFG = PeopleConfig(features=12, wrong_share=0.5, examples=4)
N_FEATURES = {"base.layer02": 30, "chat.layer02": 30, "delta.layer02": 2}


@pytest.fixture(scope="module")
def frames() -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    texts = pl.DataFrame(
        {
            "text_id": [f"t{i}" for i in range(60)],
            "text": [f"=HYPERLINK({i})" if i == 0 else f"दीया, lamp {i}\nsecond line" for i in range(60)],
            "language": ["hi"] * 60,
        }
    )
    rng = np.random.default_rng(0)
    examples, labels = [], []
    for dictionary, n in N_FEATURES.items():
        for latent in range(n):
            feature = f"{dictionary}/{latent}"
            labels.append({"feature": feature, "label": f"-word{latent} · {dictionary.split('.')[0]}{latent}"})
            for pool in ("select", "estimate"):
                rows = rng.choice(np.arange(0, 30) if pool == "estimate" else np.arange(30, 60), 6, replace=False)
                examples += [
                    {"feature": feature, "dictionary": dictionary, "rank": rank, "row": int(row), "pool": pool}
                    for rank, row in enumerate(rows)
                ]
    labels.append({"feature": "base.layer02/29", "label": None})
    return texts, pl.DataFrame(examples), pl.DataFrame(labels).unique("feature", keep="last", maintain_order=True)


@pytest.fixture
def sheet(frames: tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame], tmp_path: Path) -> Path:
    return make_sheet(*frames, CFG, seed=3, folder=tmp_path).path


def keys(sheet: Path) -> dict[str, dict[str, object]]:
    database = sqlite3.connect(sheet)
    database.row_factory = sqlite3.Row
    rows = [dict(row) for row in database.execute("SELECT * FROM keys JOIN items USING (item)")]
    database.close()
    return {str(row["item"]): row for row in rows}


def test_features_come_evenly_from_the_dictionaries_and_wrong_labels_are_wrong(sheet: Path) -> None:
    rows = keys(sheet)
    own = [row for row in rows.values() if not row["wrong_label"]]
    wrong = [row for row in rows.values() if row["wrong_label"]]
    by_dictionary = {name: sum(row["dictionary"] == name for row in own) for name in N_FEATURES}
    assert by_dictionary == {"base.layer02": 5, "chat.layer02": 5, "delta.layer02": 2}
    assert len(wrong) == 6
    assert {row["feature"] for row in wrong} <= {row["feature"] for row in own}
    for row in own:
        assert row["label_of"] == row["feature"]
    for row in wrong:
        assert row["label_of"] != row["feature"]
        shown, mine = str(row["label"]), next(str(o["label"]) for o in own if o["feature"] == row["feature"])
        assert not set(shown.split()) & set(mine.split()) - {"·"}


def test_a_person_sees_nothing_of_the_feature_and_only_texts_that_no_labeller_saw(
    sheet: Path, tmp_path: Path
) -> None:
    export_csv(sheet, "asha", tmp_path / "asha.csv")
    text = (tmp_path / "asha.csv").read_bytes().decode("utf-8-sig")
    assert "layer02" not in text
    assert "wrong" not in text
    items = items_for(sheet, "asha")
    assert len(items) == 18
    for item in items:
        assert len(item.texts) == CFG.examples
        assert all(int(shown.text_id[1:]) < 30 for shown in item.texts)  # the estimate pool


def test_order_is_each_persons_own_and_the_same_again(
    sheet: Path, frames: tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame], tmp_path: Path
) -> None:
    asha, ravi = items_for(sheet, "asha"), items_for(sheet, "ravi")
    assert asha == items_for(sheet, " asha ")
    assert asha != ravi
    assert sorted(asha, key=lambda i: i.item) == sorted(ravi, key=lambda i: i.item)
    again = make_sheet(*frames, CFG, seed=3, folder=tmp_path / "again").path
    assert items_for(again, "asha") == asha
    other = make_sheet(*frames, CFG, seed=4, folder=tmp_path / "other").path
    assert items_for(other, "asha") != asha


def test_a_spreadsheet_round_trip_keeps_answers_and_runs_no_formula(sheet: Path, tmp_path: Path) -> None:
    first = items_for(sheet, "asha")[0].item
    note = "=cmd|'/c calc'!A0"
    save_answers(sheet, [Answer(first, "asha", "yes", "partly", note)])
    path = tmp_path / "asha.csv"
    assert export_csv(sheet, "asha", path) == 18
    raw = path.read_bytes()
    assert raw.startswith(b"\xef\xbb\xbf")
    assert "दीया" in raw.decode("utf-8-sig")
    rows = list(csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline="")))
    cells = [cell for row in rows for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert any(cell.startswith("'=HYPERLINK") for cell in cells)
    assert any(cell.startswith("'-word") for cell in cells)
    assert import_csv(sheet, path) == 1
    assert answers_of(sheet, "asha") == {first: Answer(first, "asha", "yes", "partly", note)}


@pytest.mark.parametrize("cell", ["=1", "+1", "-x", "@a", "\tx", " =1", "'=1", "plain", "'quoted'", "", "a=b"])
def test_escaping_a_cell_can_be_undone(cell: str, sheet: Path, tmp_path: Path) -> None:
    escaped = escape_cell(cell)
    assert not escaped.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r"))
    item = items_for(sheet, "a")[0].item
    save_answers(sheet, [Answer(item, "a", "no", "no", cell.strip())])
    export_csv(sheet, "a", tmp_path / "a.csv")
    import_csv(sheet, tmp_path / "a.csv")
    assert answers_of(sheet, "a")[item].note == cell.strip()


def test_semicolons_and_capitals_of_a_spreadsheet_are_read(sheet: Path, tmp_path: Path) -> None:
    item = items_for(sheet, "ravi")[0].item
    path = tmp_path / "ravi.csv"
    path.write_text(f"item;annotator;label;theme;fits;note\n{item};ravi;x, y;Yes; no ;\n", encoding="utf-8")
    assert import_csv(sheet, path) == 1
    assert answers_of(sheet, "ravi")[item] == Answer(item, "ravi", "yes", "no", "")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["nosuchitem,asha,yes,no,"], "line 2: expected an item of this sheet, found 'nosuchitem'"),
        (["ITEM,asha,maybe,no,"], "line 2: expected yes, no, unsure or nothing for theme, found 'maybe'"),
        (["ITEM,asha,yes,unsure,"], "line 2: expected yes, partly, no or nothing for fits, found 'unsure'"),
        (["ITEM,,yes,no,"], "line 2: expected the annotator's name, found nothing"),
        (["ITEM,asha,yes,no,", "OTHER,ravi,yes,no,"], "line 3: expected the one annotator 'asha', found 'ravi'"),
        (["ITEM,asha,yes,no,", "ITEM,asha,no,no,"], "line 3: expected each item once"),
        ([], "expected answers, found no rows"),
    ],
)
def test_a_faulty_import_is_one_line_and_stores_nothing(
    sheet: Path, tmp_path: Path, rows: list[str], said: str
) -> None:
    one, two = (item.item for item in items_for(sheet, "asha")[:2])
    path = tmp_path / "faulty.csv"
    body = "\n".join(["item,annotator,theme,fits,note", *rows]).replace("ITEM", one).replace("OTHER", two)
    path.write_text(body + "\n", encoding="utf-8")
    with pytest.raises(UserError) as error:
        import_csv(sheet, path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert answers_of(sheet, "asha") == {}


def test_other_faulty_files_are_one_line(sheet: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    with pytest.raises(UserError, match="found no file"):
        import_csv(sheet, path)
    path.write_bytes("item,annotator\n".encode("utf-16"))
    with pytest.raises(UserError, match="expected UTF-8"):
        import_csv(sheet, path)
    path.write_text("item,annotator,fits,note\n")
    with pytest.raises(UserError, match="expected the column theme"):
        import_csv(sheet, path)
    with pytest.raises(UserError, match="annotator: expected a name"):
        items_for(sheet, "  ")
    with pytest.raises(UserError, match="found no file"):
        items_for(tmp_path / "absent.sqlite", "asha")
    path.write_text("not a database, though long enough to look at")
    with pytest.raises(UserError, match="expected an annotation sheet"):
        items_for(path, "asha")
    database = sqlite3.connect(sheet)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(UserError, match="found 99"):
        items_for(sheet, "asha")


def test_a_sheet_with_answers_is_not_replaced(
    sheet: Path, frames: tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]
) -> None:
    make_sheet(*frames, CFG, seed=9, folder=sheet.parent)
    save_answers(sheet, [Answer(items_for(sheet, "asha")[0].item, "asha", "yes", "yes")])
    with pytest.raises(UserError, match="found 1"):
        make_sheet(*frames, CFG, seed=9, folder=sheet.parent)
    assert sheet.name == SHEET
    assert [path.name for path in sheet.parent.iterdir()] == [SHEET]


def test_agreement_leaves_planted_labels_out_and_counts_who_refused_them(sheet: Path) -> None:
    rows = keys(sheet)
    rng = np.random.default_rng(1)
    truth = {item: str(rng.choice(["yes", "no"])) for item in rows}
    for who in ("asha", "ravi"):
        save_answers(
            sheet,
            [
                Answer(item, who, "yes", ("no" if who == "asha" else "yes") if row["wrong_label"] else truth[item])
                for item, row in rows.items()
            ],
        )
    found = agreement_of_sheet(sheet, seed=0)
    # They differ on every planted item and agree on all others.
    assert found["fits"]["items"] == 12
    assert found["fits"]["alpha"]["value"] == pytest.approx(1.0)
    assert found["theme"]["alpha"]["value"] is None
    assert found["wrong_labels"] == {
        "asha": {"refused": 6, "answered": 6},
        "ravi": {"refused": 0, "answered": 6},
    }
