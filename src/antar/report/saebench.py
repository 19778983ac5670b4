"""What SAEBench's own evaluations said, beside predictive validity and never a part of it."""

from __future__ import annotations

from collections.abc import Sequence

from antar.criteria.benchmarks import BenchmarkRow, Benchmarks
from antar.report.blocks import Block, Cell, Column, Paragraph, Row, Section, Table
from antar.report.text import number
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
        return Section("saebench", TITLE, [Paragraph("SAEBench's evaluations were not run (`antar saebench RUN`).")])
    who = ", ".join(
        f"{name} {found.versions[name]}" for name in ("sae-bench", "sae-probes") if name in found.versions
    )
    blocks: list[Block] = [
        Paragraph(
            f"Evaluations of {who}, as they are. They decide no criterion: criterion 3 asks whether a label tells "
            "which texts a feature fires on, which none of them asks."
        ),
        Paragraph(found.advice, "note"),
    ]
    for evaluation in dict.fromkeys(row.evaluation for row in found.rows):
        blocks += [_table(evaluation, [row for row in found.rows if row.evaluation == evaluation])]
    if found.not_run:
        blocks.append(_not_run(found))
    return Section("saebench", TITLE, blocks)


def _table(evaluation: str, rows: Sequence[BenchmarkRow]) -> Table:
    names = list(dict.fromkeys(name for row in rows for name in row.numbers))
    body = [Row(row.dictionary, [number(row.numbers.get(name)) for name in names], null=row.null) for row in rows]
    columns = [Column("dictionary", False), *(Column(name) for name in names)]
    note = (
        f"{evaluation}. Each file as SAEBench wrote it: {rows[0].file.split('/')[0]}/<dictionary>/{evaluation}.json."
    )
    return Table(MEANINGS[evaluation], columns, body, f"{note} Shaded rows: a baseline.")


def _not_run(found: Benchmarks) -> Table:
    rows: list[Row] = []
    for one in found.not_run:
        many = len(one.dictionaries)
        which = ", ".join(one.dictionaries) if many <= 4 else f"{many} dictionaries"
        cells: list[Cell] = [which, one.reason]
        rows.append(Row(one.evaluation, cells))
    columns = [Column("evaluation", False), Column("on", False), Column("why not", False)]
    return Table("Not run", columns, rows, "")
