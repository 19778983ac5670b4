"""Texts in tables: LaTeX that data cannot break, CSV that no spreadsheet computes."""

from __future__ import annotations

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antar.core import latex
from antar.core.errors import UserError
from antar.core.sheets import csv_bytes

HOSTILE = r"\input{/etc/passwd} 100% of $x$ & #1 _a^b~ {open \\[9em] * `` '' -- \end{tabular}"


def unescaped(text: str) -> str:
    """What LaTeX prints, for the commands that `escape` writes and no other: an independent reader."""
    names = {"textbackslash": "\\", "textasciicircum": "^", "textasciitilde": "~", "textless": "<",
             "textgreater": ">", "textbar": "|", "textasciigrave": "`"}  # fmt: skip
    out, at = [], 0
    while at < len(text):
        if found := re.match(r"\\([a-z]+)\{\}", text[at:]):
            out.append(names[found[1]])
        elif found := re.match(r"\\symbol\{34\}", text[at:]):
            out.append('"')
        elif (found := re.match(r"\\([{}$&#_%])", text[at:])) or (found := re.match(r"\{([\[\]*]?)\}", text[at:])):
            out.append(found[1])
        else:
            assert text[at] not in '\\{}$&#_%^~<>|`"[]*', text[at:]
            found = re.match(r"(?s).", text[at:])
            out.append(text[at])
        at += found.end()
    return "".join(out)


@given(
    st.text(alphabet=st.one_of(st.characters(categories=["L", "M", "N", "P", "S"]), st.sampled_from("\\{}[]*-'` %")))
)
def test_what_latex_prints_is_the_text_on_one_line(text):
    assert unescaped(latex.escape(text)) == " ".join(text.split())


def test_hostile_text_prints_as_it_reads_and_devanagari_is_whole():
    assert unescaped(latex.escape(HOSTILE)) == " ".join(HOSTILE.split())
    assert latex.escape("क्षत्रिय हिंदी\u200dमें") == "क्षत्रिय हिंदी\u200dमें"
    assert latex.escape("a\u202eb\x00\nc") == "ab c"


def test_no_cell_can_end_a_row_or_open_an_option():
    made = latex.table(["what", "n"], [["[9em] first", 3], ["*", None], ["a & b \\\\ c", 2]])
    rows = made.split("\\midrule\n")[1].split("\\bottomrule")[0].strip().splitlines()
    assert len(rows) == 3
    assert all(row.endswith(r" \\") and row.count(r"\\") == 1 for row in rows)
    assert all(len(re.findall(r"(?<!\\)&", row)) == 1 for row in rows)
    assert not any(row.lstrip().startswith(("[", "*")) for row in rows)


def test_numbers_stand_to_the_right_with_their_minus():
    made = latex.table(["name", "d", "q"], [["x", -0.51234, 1.2e-7], ["y", 12, float("nan")], ["z", None, 0.25]])
    assert made.startswith("\\begin{tabular}{lrr}")
    assert r"x & $-0.512$ & $1.2\times10^{-7}$ \\" in made
    assert r"y & 12 & -- \\" in made
    assert latex.table(["ok"], [[True], [False]]).count("yes") == 1


def test_a_short_row_is_refused():
    with pytest.raises(UserError, match="expected 2 cells, found 1"):
        latex.table(["a", "b"], [["only"]])


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1"])
def test_no_text_is_a_formula(text):
    rows = list(csv.reader(io.StringIO(csv_bytes([text, "n"], [[text, -2.5]]).decode("utf-8-sig"), newline="")))
    assert rows == [[f"'{text}", "n"], [f"'{text}", "-2.5"]]


def test_csv_keeps_hindi_and_says_so_to_spreadsheets():
    body = csv_bytes(["t"], [['हिंदी, "उद्धरण"\nदो'], ["a\0b"]])
    assert body.startswith(b"\xef\xbb\xbf")
    rows = list(csv.reader(io.StringIO(body.decode("utf-8-sig"), newline="")))
    assert rows == [["t"], ['हिंदी, "उद्धरण"\nदो'], ["a\u2400b"]]
