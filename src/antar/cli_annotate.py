"""`antar annotate`: blind annotation by people. Parse, call the stage, print. No logic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

annotate = typer.Typer(no_args_is_help=True)

RunFolder = Annotated[Path, typer.Argument(help="A run folder, e.g. runs/demo.", metavar="RUN")]
File = Annotated[Path, typer.Option(help="A .csv or .jsonl file.", metavar="FILE")]


@annotate.command("init")
def init(
    run: RunFolder,
    annotators: Annotated[str, typer.Option(help="Their names, with commas between.", metavar="A,B")],
    features: Annotated[
        str | None,
        typer.Option(help="How many to draw, or a file with one feature a line.", metavar="N|FILE"),
    ] = None,
) -> None:
    """Draw the blinded items that people judge, into RUN/people/annotations.sqlite. Never over anybody's work."""
    from antar.stages.people import init_sheet

    sheet = init_sheet(run, annotators.split(","), features)
    typer.echo(
        f"wrote {sheet.path}: {sheet.own} features, {sheet.wrong_labels} under a wrong label, {sheet.repeats} twice, "
        f"for {', '.join(sheet.annotators)}; `antar serve {run}` gives each a link"
    )


@annotate.command("export")
def export(
    run: RunFolder,
    file: File,
    annotator: Annotated[
        str | None, typer.Option(help="Only this person's: as CSV, the sheet to fill in.", metavar="NAME")
    ] = None,
) -> None:
    """Write answers. CSV of one annotator: a blind sheet; of all: a table for analysis. JSONL: the log, to merge."""
    from antar.stages.people import export_annotations

    typer.echo(f"wrote {export_annotations(run, file, annotator)} rows to {file}")


@annotate.command("import")
def import_(run: RunFolder, file: File) -> None:
    """Read one annotator's filled-in CSV, or the JSONL of another copy of the sheet."""
    from antar.stages.people import import_annotations

    typer.echo(f"read {file}: {import_annotations(run, file)}")


@annotate.command("merge")
def merge(
    run: RunFolder,
    other: Annotated[Path, typer.Argument(help="A run folder, an annotations.sqlite, or a .jsonl.", metavar="OTHER")],
) -> None:
    """Put another copy's answers into RUN's. Nothing is lost; of two answers to one question the later stands."""
    from antar.stages.people import merge_annotations, merged_in_words

    typer.echo(f"merged {other}: {merged_in_words(merge_annotations(run, other))}")


@annotate.command("agreement")
def agreement(
    run: RunFolder,
    json: Annotated[Path | None, typer.Option(help="Write all of it here as JSON too.", metavar="FILE")] = None,
) -> None:
    """How far people agree: with each other, with themselves, with the validator; and who keeps wrong labels."""
    from antar import tables_people
    from antar.stages.people import annotation_findings

    findings = annotation_findings(run)
    tables_people.show_findings(findings)
    if json is not None:
        tables_people.write_findings(json, findings)
        typer.echo(f"wrote {json}")
