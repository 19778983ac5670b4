"""What SAEBench's own evaluations said, beside predictive validity and never a part of it."""

from __future__ import annotations

from collections.abc import Sequence

from antar.criteria.benchmarks import BenchmarkRow, Benchmarks
from antar.report.blocks import Block, Cell, Column, Paragraph, Row, Section, Table
from antar.report.sources import at, length, number, quoted
from antar.report.text import NOT_MEASURED
from antar.report.words import joined, told
from antar.run import Run

TITLE = "SAEBench"
MEANINGS = {
    "meta_structure": "Do decoder rows share directions? A meta-SAE a quarter as wide rebuilds them.",
    "sparse_probing_sae_probes": "k-sparse probing: is a concept of somebody else's data set in few latents?",
    "core": "What is lost when the dictionary's reconstruction takes the place of the activations?",
    "sparse_probing": "k-sparse probing on SAEBench's own eight data sets.",
}


def saebench_section(run: Run) -> Section:
    found = run.benchmarks if run.has("criteria.json") else None
    if found is None:
        words = "SAEBench's evaluations were not run (`antar saebench RUN`)."
        return Section("saebench", TITLE, [Paragraph(words)], appendix=True)
    versions = [
        f"{name} " + quoted(found.versions[name], _at("versions", name))
        for name in ("sae-bench", "sae-probes")
        if name in found.versions
    ]
    blocks: list[Block] = [
        Paragraph(
            told(
                "Evaluations of {}, as they are. They decide no criterion: predictive validity asks whether a label "
                "tells which texts a feature fires on, which none of them asks.",
                joined(versions, ", "),
            )
        ),
        Paragraph(quoted(found.advice, _at("advice")), "note"),
    ]
    placed = list(enumerate(found.rows))
    blocks += [
        _table(evaluation, [(place, row) for place, row in placed if row.evaluation == evaluation])
        for evaluation in dict.fromkeys(row.evaluation for row in found.rows)
    ]
    if found.not_run:
        blocks.append(_not_run(found))
    return Section("saebench", TITLE, blocks, appendix=True)


def _at(*path: str | int) -> str:
    return at("criteria.json", "saebench", *path)


def _table(evaluation: str, placed: Sequence[tuple[int, BenchmarkRow]]) -> Table:
    """placed: with the place of each row among all."""
    names = list(dict.fromkeys(name for _, row in placed for name in row.numbers))
    body = [
        Row(
            quoted(row.dictionary, _at("rows", place, "dictionary")),
            [_cell(row.numbers.get(name), _at("rows", place, "numbers", name)) for name in names],
            null=row.null,
        )
        for place, row in placed
    ]
    columns = [Column("dictionary", False), *(Column(name) for name in names)]
    folder = placed[0][1].file.split("/")[0]
    note = (
        f"{evaluation}. Each file as SAEBench wrote it: {folder}/<dictionary>/{evaluation}.json. Shaded: a baseline."
    )
    return Table(MEANINGS[evaluation], columns, body, note)


def _cell(value: float | None, source: str) -> Cell:
    return NOT_MEASURED if value is None else number(value, source)


def _not_run(found: Benchmarks) -> Table:
    rows: list[Row] = []
    for place, one in enumerate(found.not_run):
        many = len(one.dictionaries)
        its = [quoted(name, _at("not_run", place, "dictionaries", n)) for n, name in enumerate(one.dictionaries)]
        count = number(many, length("criteria.json", "saebench", "not_run", place, "dictionaries"))
        which = joined(its, ", ") if many <= 4 else count + " dictionaries"
        cells: list[Cell] = [which, quoted(one.reason, _at("not_run", place, "reason"))]
        rows.append(Row(one.evaluation, cells))
    columns = [Column("evaluation", False), Column("on", False), Column("why not", False)]
    return Table("Not run", columns, rows, "")
