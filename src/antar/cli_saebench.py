"""`antar saebench`: SAEBench's own evaluations on a run's dictionaries. Parses and prints; no logic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from antar.core.errors import UserError

ENVIRONMENT = Path(".cache/saebench")


def saebench(
    run: Annotated[Path | None, typer.Argument(help="A run folder, e.g. runs/demo.", metavar="RUN")] = None,
    setup: Annotated[
        bool, typer.Option("--setup", help="Make SAEBench's own environment first (about 3 GB).")
    ] = False,
    environment: Annotated[Path, typer.Option(help="Where that environment is.", metavar="DIR")] = ENVIRONMENT,
    python: Annotated[
        Path | None, typer.Option(help="With --setup: the Python to make it with, 3.12 or older.", metavar="PATH")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Run this evaluation alone; may be given again.", metavar="EVALUATION")
    ] = None,
    dictionary: Annotated[
        list[str] | None, typer.Option(help="On this dictionary alone; may be given again.", metavar="ID")
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="k-sparse probing on this data set of sae-probes; may be given again.", metavar="NAME"),
    ] = None,
    core_texts: Annotated[
        Path | None, typer.Option(help="A folder of texts (jsonl, parquet) for `core`.", metavar="DIR")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Where a side's checkpoint lies, e.g. base=DIR.", metavar="SIDE=DIR")
    ] = None,
    online: Annotated[bool, typer.Option("--online", help="Let SAEBench fetch its data from the hub.")] = False,
    device: Annotated[str, typer.Option(help="A torch device.", metavar="NAME")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="Torch threads.", min=1, metavar="N")] = None,
) -> None:
    """Run SAEBench's evaluations where they are meaningful and possible; say of each of the others why not."""
    from antar import tables_saebench
    from antar.stages.saebench import run_saebench
    from antar.stages.saebench_environment import make_environment, open_environment
    from antar.stages.saebench_jobs import Wanted

    if run is None and not setup:
        raise UserError("RUN: expected a run folder (or --setup, to make SAEBench's environment), found neither")
    made = make_environment(environment, python) if setup else open_environment(environment)
    if run is None:
        typer.echo(f"{environment}: " + ", ".join(f"{name} {version}" for name, version in made.versions.items()))
        return
    wanted = Wanted(only or (), dictionary or (), dataset or (), core_texts, online, _models(model or ()))
    tables_saebench.show_found(run_saebench(run, made, wanted, device, threads))
    typer.echo(f"wrote {run / 'saebench'}; `antar run STUDY` takes the numbers into criteria.json and the report")


def _models(given: list[str] | tuple[str, ...]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for one in given:
        side, equals, folder = one.partition("=")
        if not equals or not (Path(folder) / "config.json").is_file():
            raise UserError(f"--model: expected SIDE=DIR with a checkpoint's config.json in DIR, found {one}")
        found[side] = Path(folder)
    return found
