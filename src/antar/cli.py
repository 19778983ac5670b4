"""The command line: parse, call the pipeline, print. No logic.

A `UserError`, and a disk that is full or cannot be written, is one line on standard error and exit code 2. Ctrl-C and
SIGTERM are one line and exit code 130 and 143; what was complete by then stays.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from antar.cli_annotate import annotate
from antar.cli_saebench import saebench
from antar.cli_share import export, pull, push
from antar.core.disk import disk_error
from antar.core.errors import UserError
from antar.core.stopping import listen, stopped_by

app = typer.Typer(
    name="antar",
    help="Compare two checkpoints of one language model from the inside, on labelled texts.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

for shared in (export, push, pull):
    app.command()(shared)
app.add_typer(annotate, name="annotate", help="Blind annotation by people: draw a sheet, merge, read the agreement.")

StudyFile = Annotated[Path, typer.Argument(help="The study file (YAML).", metavar="STUDY")]
RunFolder = Annotated[Path, typer.Argument(help="A run folder, e.g. runs/demo.", metavar="RUN")]
Runs = Annotated[Path, typer.Option(help="Where run folders are kept.", metavar="DIR")]
Force = Annotated[bool, typer.Option("--force", help="Make it again even where it is fresh.")]
FromFolder = Annotated[
    Path | None,
    typer.Option(help="Read the hub's files from this folder, where they were put by hand.", metavar="DIR"),
]
Folds = Annotated[
    int | None,
    typer.Option(help="Replicas on document folds, for criterion 7; kept for this run folder.", min=0, metavar="N"),
]
Seeds = Annotated[
    int | None,
    typer.Option(help="Replicas with other seeds, for criterion 7; kept for this run folder.", min=0, metavar="N"),
]
Engine = Annotated[
    str, typer.Option("--engine", help="Where shards are made: inline (this process) or ray.", metavar="NAME")
]
Address = Annotated[
    str | None,
    typer.Option(
        help="A Ray cluster, host:6379 or auto. Without it RAY_ADDRESS, or all of this machine.", metavar="HOST:PORT"
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(help="Make only part i of N of the shards, i from 0; for array jobs.", metavar="i/N"),
]
STAGES = "Stages"
RUNS = Path("runs")


@app.command()
def run(
    study: StudyFile,
    until: Annotated[str | None, typer.Option(help="Stop after this stage.", metavar="STAGE")] = None,
    force: Annotated[
        str | None, typer.Option(help="Make this stage again even where fresh.", metavar="STAGE")
    ] = None,
    folds: Folds = None,
    seeds: Seeds = None,
    from_folder: FromFolder = None,
    runs: Runs = RUNS,
    engine: Engine = "inline",
    address: Address = None,
    shard: Shard = None,
    stage: Annotated[str, typer.Option(help="With --shard: the stage whose shards.", metavar="STAGE")] = "extract",
) -> None:
    """Run a study: every stage in order. What is fresh is skipped; a killed run goes on where it stopped."""
    from antar import pipeline, tables
    from antar.engines import open_engine

    if shard is not None:
        _one_part(study, runs, shard, stage, engine, address)
        return
    with open_engine(engine, address) as at_work:
        context = pipeline.open_study(study, runs, at_work, from_folder=from_folder, folds=folds, seeds=seeds)
        pipeline.run_study(context, until=until, force=force)
    if until in (None, "measure", "report"):
        tables.show_criteria(context.folder)
    if until in (None, "report"):
        typer.echo(f"report: {context.folder / 'report' / 'index.html'}")


@app.command()
def plan(
    study: StudyFile, folds: Folds = None, seeds: Seeds = None, from_folder: FromFolder = None, runs: Runs = RUNS
) -> None:
    """Say what a run would do and cost: fresh or stale and why, disk, memory, tokens, LLM calls. Runs nothing."""
    from antar import pipeline, tables
    from antar.stages.costs import estimate_costs

    context = pipeline.open_study(study, runs, from_folder=from_folder, folds=folds, seeds=seeds)
    tables.show_plan(pipeline.plan_study(context), estimate_costs(context), pipeline.free_bytes(context.folder))


def _one_part(study: Path, runs: Path, shard: str, stage: str, engine: str, address: str | None) -> None:
    from antar import pipeline
    from antar.stages.parts import Part

    if engine != "inline" or address is not None:
        raise UserError("--shard: expected no engine beside it, since a part is made here; leave --engine out")
    pipeline.run_part(pipeline.open_study(study, runs), Part.parse(shard), stage)


def _one_stage(
    name: str,
    study: Path,
    runs: Path,
    force: bool,
    from_folder: Path | None = None,
    engine: str = "inline",
    address: str | None = None,
) -> Path:
    from antar import pipeline
    from antar.engines import open_engine

    with open_engine(engine, address) as at_work:
        context = pipeline.open_study(study, runs, at_work, from_folder=from_folder)
        pipeline.run_study(context, only=name, force=name if force else None)
    return context.folder


@app.command(rich_help_panel=STAGES)
def organism(study: StudyFile, force: Force = False, runs: Runs = RUNS) -> None:
    """Make the model pair with a planted difference (for studies that name one)."""
    _one_stage("organism", study, runs, force)


@app.command(rich_help_panel=STAGES)
def corpus(study: StudyFile, from_folder: FromFolder = None, force: Force = False, runs: Runs = RUNS) -> None:
    """Load, clean, sample and split the texts."""
    _one_stage("corpus", study, runs, force, from_folder)


@app.command(rich_help_panel=STAGES)
def sham(study: StudyFile, from_folder: FromFolder = None, force: Force = False, runs: Runs = RUNS) -> None:
    """Make the shams: base trained on neutral text until it has drifted as far as chat has."""
    _one_stage("sham", study, runs, force, from_folder)


@app.command(rich_help_panel=STAGES)
def extract(
    study: StudyFile,
    force: Force = False,
    runs: Runs = RUNS,
    engine: Engine = "inline",
    address: Address = None,
    shard: Shard = None,
) -> None:
    """Read the activations of every side at every layer."""
    if shard is None:
        _one_stage("extract", study, runs, force, engine=engine, address=address)
    else:
        _one_part(study, runs, shard, "extract", engine, address)


@app.command(rich_help_panel=STAGES)
def train(
    study: StudyFile, force: Force = False, runs: Runs = RUNS, engine: Engine = "inline", address: Address = None
) -> None:
    """Train the dictionaries."""
    _one_stage("train", study, runs, force, engine=engine, address=address)


@app.command(rich_help_panel=STAGES)
def features(
    study: StudyFile, force: Force = False, runs: Runs = RUNS, engine: Engine = "inline", address: Address = None
) -> None:
    """Encode all texts; find live features and their top examples."""
    _one_stage("features", study, runs, force, engine=engine, address=address)


@app.command(rich_help_panel=STAGES)
def interpret(
    study: StudyFile,
    limit: Annotated[
        int | None,
        typer.Option(
            help="A first look: a language model is asked about so many features in all.", min=1, metavar="N"
        ),
    ] = None,
    force: Force = False,
    runs: Runs = RUNS,
) -> None:
    """Label features, validate the labels, predict from them. Calls that were made are never made again."""
    from dataclasses import replace

    from antar import pipeline, tables

    context = replace(pipeline.open_study(study, runs), label_limit=limit)
    pipeline.run_study(context, only="interpret", force="interpret" if force else None)
    tables.show_labels(context.folder, limit or 10)


@app.command(rich_help_panel=STAGES)
def measure(
    study: StudyFile,
    folds: Folds = None,
    seeds: Seeds = None,
    force: Force = False,
    runs: Runs = RUNS,
    engine: Engine = "inline",
    address: Address = None,
) -> None:
    """Contrasts, nulls and the seven criteria. With --folds or --seeds the replicas that are missing are trained."""
    from antar import pipeline, tables
    from antar.engines import open_engine

    asked = folds is not None or seeds is not None
    with open_engine(engine, address) as at_work:
        context = pipeline.open_study(study, runs, at_work, folds=folds, seeds=seeds)
        pipeline.run_study(context, only="measure", force="measure" if force else None, train_replicas=asked)
    if asked:
        tables.show_stability(context.folder)


@app.command(rich_help_panel=STAGES)
def report(
    run_or_study: Annotated[
        Path, typer.Argument(help="The study file, or a run folder as it is.", metavar="RUN-or-STUDY")
    ],
    form: Annotated[
        str, typer.Option("--format", help="Which of its files is named: html, md or tex (all are written).")
    ] = "html",
    force: Force = False,
    runs: Runs = RUNS,
) -> None:
    """Write the report: a page, its twin in Markdown, tables for LaTeX, and the figures."""
    from antar import pipeline

    name = pipeline.report_file(form)
    if run_or_study.is_dir():
        pipeline.write_report_of(run_or_study)
        folder = run_or_study
    else:
        folder = _one_stage("report", run_or_study, runs, force)
    typer.echo(f"report: {folder / 'report' / name}")


@app.command()
def sweep(
    study: StudyFile,
    only: Annotated[
        list[str] | None, typer.Option(help="Train this variant alone; may be given again.", metavar="VARIANT")
    ] = None,
    force: Force = False,
    runs: Runs = RUNS,
    engine: Engine = "inline",
    address: Address = None,
) -> None:
    """Train the study's dictionaries by other recipes (its `sweep:`), and compare them."""
    from antar import pipeline, tables
    from antar.engines import open_engine

    with open_engine(engine, address) as at_work:
        context = pipeline.open_study(study, runs, at_work)
        table = pipeline.run_sweep(context, only or (), force)
    tables.show_sweep(table, context.study.criteria.mse)


app.command()(saebench)


@app.command()
def show(
    run: RunFolder,
    top: Annotated[int, typer.Option(help="How many features of each contrast.", min=1)] = 5,
) -> None:
    """Print a run's criteria and top features."""
    from antar import tables, tables_saebench

    tables.show_criteria(run)
    tables_saebench.show_benchmarks(run)
    tables.show_top_features(run, top)


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="The study file to write.")] = Path("study.yaml"),
) -> None:
    """Write a commented study file to start from. Never overwrites one."""
    from antar import templates

    templates.write_study_file(path)
    typer.echo(f"wrote {path}; edit it, then: antar plan {path}")


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="A SAELens folder: cfg.json and safetensors.", metavar="DIR")],
    to: Annotated[Path, typer.Option(help="A new folder for the dictionary, or a run.", metavar="DIR")],
    k: Annotated[
        int | None, typer.Option(help="Latents that fire on a text on average, where DIR has thresholds and no k.")
    ] = None,
) -> None:
    """Read another tool's dictionary (SAELens) as one of antar's, for raw activations."""
    from antar.stages.export import import_dictionary

    typer.echo(f"wrote {import_dictionary(source, to, k)}")


@app.command()
def serve(
    run: RunFolder,
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.", min=0, max=65535)] = 8437,
    host: Annotated[
        str,
        typer.Option(
            help="Listen on another address than the loopback. Needs a password: in ANTAR_PASSWORD, or asked for."
        ),
    ] = "127.0.0.1",
    links: Annotated[int, typer.Option(help="How many links to print, each for one browser.", min=1, max=99)] = 1,
) -> None:
    """Browse a run in a local browser: its features, dictionaries, criteria and report."""
    from antar.web import serve as serve_run

    serve_run(run, port, host, links)


@app.command()
def prove(
    quick: Annotated[bool, typer.Option("--quick", help="A smaller battery, in minutes.")] = False,
    out: Annotated[Path, typer.Option(help="Where proof.json goes.", metavar="DIR")] = Path("runs/proof"),
    organisms: Annotated[bool, typer.Option(help="Make the planted model pairs too.")] = True,
    smollm2: Annotated[
        Path | None, typer.Option(help="A finished run of studies/smollm2.yaml to show beside them.", metavar="RUN")
    ] = None,
) -> None:
    """Run the statistics on data whose truth is known, and write proof.json and a page."""
    from antar import tables
    from antar.prove import prove as run_battery

    tables.show_proof(run_battery(quick=quick, out=out, organisms=organisms, smollm2=smollm2))
    typer.echo(f"wrote {out / 'proof.json'} and {out / 'index.html'}")


@app.command()
def version() -> None:
    """Print antar's version."""
    from antar import __version__

    typer.echo(__version__)


def main() -> None:
    """The `antar` command."""
    listen()
    try:
        app()
    except BaseException as error:
        if stopped_by and not (isinstance(error, SystemExit) and not error.code):
            _fail("stopped; what was complete stays, and the same command goes on from here", 128 + stopped_by[0])
        if isinstance(error, UserError):
            _fail(str(error), 2)
        if isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError | PermissionError):
            _fail(f"{error.filename}: {error.strerror}; choose another place, or remove what is there", 2)
        if isinstance(error, Exception) and (problem := disk_error(error)):
            _fail(str(problem), 2)
        raise


def _fail(message: str, code: int) -> None:
    with contextlib.suppress(OSError):  # the log that it goes to may be on the full disk
        sys.stderr.write(f"antar: {' '.join(message.split())}\n")
        sys.stderr.flush()
    raise SystemExit(code)
