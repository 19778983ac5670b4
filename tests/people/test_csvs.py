"""A person's sheet in a spreadsheet, and the table for analysis."""

from __future__ import annotations

import csv
import io

import pytest

from antar.core.errors import UserError
from antar.core.sheets import escape_cell
from antar.people.adjudicate import Ruling, rule
from antar.people.csvs import export_sheet, export_table, import_sheet, plain
from antar.people.queue import items_for
from antar.people.schema import connect
from antar.people.store import state_of, states_of


def read(path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")))


def fill(path, rows: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8-sig", newline="") as handle:
        writer = csv.DictWriter(handle, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def n_writes(sheet) -> int:
    with connect(sheet) as database:
        return database.execute("SELECT count(*) FROM writes").fetchone()[0]


def test_a_label_that_no_sheet_showed_is_not_judged(sheet, sheets, tmp_path):
    path = tmp_path / "asha.csv"
    export_sheet(sheet, "asha", path)
    rows = read(path)
    assert not any(row["label"] for row in rows)
    rows[0] |= {"pattern": "4", "what": "lamps"}
    rows[1] |= {"pattern": "4", "what": "wells", "verdict": "KEEP", "kind": "cultural"}
    fill(path, rows)
    with pytest.raises(UserError, match=r"line \d+: verdict: expected an answer to the label that"):
        import_sheet(sheet, path)
    assert n_writes(sheet) == 0
    rows[1]["label"] = sheets.keys(sheet)[rows[1]["item"]]["label"]  # of another machine's, which showed it
    fill(path, rows)
    assert import_sheet(sheet, path) == 1


def test_a_spreadsheet_is_filled_in_blind_and_then_with_the_labels(sheet, sheets, tmp_path):
    path, keys = tmp_path / "asha.csv", sheets.keys(sheet)
    assert export_sheet(sheet, "asha", path) == len(keys)
    rows = read(path)
    assert "word" not in path.read_text("utf-8-sig")  # every label has it, no text does
    rows[0] |= {"pattern": "4", "what": "=lamps(1)"}
    rows[1] |= {"pattern": "1"}
    rows[2] |= {"pattern": "5"}  # nothing said of what it is, so its label stays closed
    fill(path, rows)
    assert import_sheet(sheet, path) == 0
    export_sheet(sheet, "asha", path)
    rows = read(path)
    assert [bool(row["label"]) for row in rows[:4]] == [True, True, False, False]
    assert plain(rows[0]["label"]) == keys[rows[0]["item"]]["label"]
    assert plain(rows[0]["what"]) == "=lamps(1)"
    rows[0] |= {"verdict": "revise", "kind": "Cultural", "better_label": "oil lamps"}
    rows[1] |= {"verdict": "INVALIDATE", "kind": "other"}
    fill(path, rows)
    assert import_sheet(sheet, path) == 2
    state = state_of(sheet, "asha", rows[0]["item"])
    assert (state.what, state.verdict, state.kind, state.label) == ("=lamps(1)", "REVISE", "cultural", "oil lamps")
    before = n_writes(sheet)
    assert import_sheet(sheet, path) == 2
    assert n_writes(sheet) == before  # the same file twice is once
    rows[0]["verdict"] = "KEEP"  # a changed mind opens the item and closes it again
    fill(path, rows)
    assert import_sheet(sheet, path) == 2
    assert state_of(sheet, "asha", rows[0]["item"]).verdict == "KEEP"


def test_no_cell_is_a_formula(sheet, tmp_path):
    path = tmp_path / "asha.csv"
    export_sheet(sheet, "asha", path)
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    cells = [cell for row in csv.reader(io.StringIO(path.read_text("utf-8-sig"), newline="")) for cell in row]
    assert "दीया" in "".join(cells)
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


@pytest.mark.parametrize("cell", ["=1", "+1", "-x", "@a", "\tx", " =1", "'=1", "plain", "'quoted'", "", "a=b"])
def test_escaping_a_cell_can_be_undone(cell):
    assert not escape_cell(cell).lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r"))
    assert plain(escape_cell(cell)) == cell.strip()


def test_semicolons_and_capitals_of_a_spreadsheet_are_read(sheet, sheets, tmp_path):
    item = items_for(sheet, "ravi")[0].item
    label = sheets.keys(sheet)[item]["label"]
    path = tmp_path / "ravi.csv"
    path.write_text(
        "item;annotator;pattern;what;label;verdict;kind;better_label\n"
        f"{item};ravi;3; x, y ;{label};Keep; LINGUISTIC;\n",
        "utf-8",
    )
    assert import_sheet(sheet, path) == 1
    state = state_of(sheet, "ravi", item)
    assert (state.what, state.verdict, state.kind) == ("x, y", "KEEP", "linguistic")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["nosuchitem,asha,3,,,,"], "line 2: item: expected an item of this sheet, found 'nosuchitem'"),
        (["ITEM,asha,9,,,,"], "line 2: pattern: expected 1, 2, 3, 4, 5 or nothing for pattern, found '9'"),
        (["ITEM,asha,3,x,MAYBE,,"], "line 2: verdict: expected KEEP, REVISE, INVALIDATE or nothing"),
        (["ITEM,asha,,,KEEP,,"], "line 2: verdict: expected an answer to the label that the sheet shows"),
        (["ITEM,,3,,,,"], "line 2: expected the annotator's name, found nothing"),
        (["ITEM,eve,3,,,,"], "line 2: annotator: expected a person of this sheet, found 'eve'"),
        (["ITEM,asha,3,,,,", "OTHER,ravi,3,,,,"], "line 3: expected the one annotator 'asha', found 'ravi'"),
        (["ITEM,asha,3,,,,", "ITEM,asha,4,,,,"], "line 3: expected each item once"),
        ([], "expected answers, found no rows"),
    ],
)
def test_a_faulty_import_is_one_line_and_stores_nothing(sheet, tmp_path, rows, said):
    one, two = (item.item for item in items_for(sheet, "asha")[:2])
    path = tmp_path / "faulty.csv"
    body = "\n".join(["item,annotator,pattern,what,verdict,kind,better_label", *rows])
    path.write_text(body.replace("ITEM", one).replace("OTHER", two) + "\n", encoding="utf-8")
    with pytest.raises(UserError) as error:
        import_sheet(sheet, path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert n_writes(sheet) == 0


def test_a_blind_answer_cannot_be_changed_through_a_file(sheet, sheets, tmp_path):
    item = items_for(sheet, "asha")[0].item
    sheets.put(sheet, "asha", item, pattern="3", what="lamps", revealed="yes")
    path = tmp_path / "asha.csv"
    export_sheet(sheet, "asha", path)
    rows = read(path)
    rows[0]["what"] = "what the label said"
    fill(path, rows)
    with pytest.raises(UserError, match=r"line .*the answers before it are closed"):
        import_sheet(sheet, path)
    assert state_of(sheet, "asha", item).what == "lamps"


def test_files_that_are_no_sheet_are_one_line(sheet, tmp_path):
    path = tmp_path / "x.csv"
    with pytest.raises(UserError, match="found no file"):
        import_sheet(sheet, path)
    path.write_bytes("item,annotator\n".encode("utf-16"))
    with pytest.raises(UserError, match="expected UTF-8"):
        import_sheet(sheet, path)
    path.write_text("item,annotator,what\nx,y,z\n")
    with pytest.raises(UserError, match="expected the column pattern"):
        import_sheet(sheet, path)
    with pytest.raises(UserError, match="expected one of asha, ravi, found 'eve'"):
        export_sheet(sheet, "eve", path)


def test_the_table_for_analysis_has_everything_and_the_consensus_apart(sheet, sheets, tmp_path):
    item = next(i for i, key in sheets.keys(sheet).items() if key["role"] == "own")
    sheets.answer(sheet, "asha", item, verdict="KEEP")
    sheets.answer(sheet, "ravi", item, verdict="INVALIDATE", kind="other")
    rule(sheet, Ruling("ruling-0001", item, "meera", "REVISE", "topical", "oil lamps", "both saw lamps"))
    path = tmp_path / "all.csv"
    assert export_table(sheet, path) == 3
    rows = read(path)
    assert [row["annotator"] for row in rows] == ["asha", "ravi", "consensus (meera)"]
    assert [row["verdict"] for row in rows] == ["KEEP", "INVALIDATE", "REVISE"]
    assert {row["feature"] for row in rows} == {sheets.keys(sheet)[item]["feature"]}
    assert rows[0]["seconds"] == "20.0"
    assert rows[2]["note"] == "both saw lamps"
    assert set(states_of(sheet, "asha")) == {item}
