"""`antar export`, `push` and `pull`: a run for other tools and other people. Parse, call, print. No logic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunFolder = Annotated[Path, typer.Argument(help="A run folder, e.g. runs/demo.", metavar="RUN")]
One = Annotated[
    str | None, typer.Option("--dictionary", help="Of this dictionary only, e.g. base.layer06.", metavar="ID")
]


def export(
    run: RunFolder,
    out: Annotated[Path, typer.Option(help="The folder to write into.", metavar="DIR")],
    to: Annotated[
        str,
        typer.Option(
            help="npz: activations in the published layout. saelens: dictionaries that sae_lens loads. "
            "neuronpedia: features, examples, labels. datasets: texts and tables that load_dataset opens. "
            "tables: contrasts and features."
        ),
    ] = "npz",
    dictionary: One = None,
    format: Annotated[
        str | None, typer.Option(help="With --to tables: csv (the default), parquet or tex.", metavar="NAME")
    ] = None,
    contrast: Annotated[
        str | None, typer.Option(help="With --to tables: this contrast alone, e.g. shift.", metavar="NAME")
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(help="Rows of each table, the strongest effects; with neuronpedia: examples of each feature.",
                     min=1, metavar="N"),
    ] = None,
) -> None:  # fmt: skip
    """Write a run for other tools: activations, dictionaries, features, texts, tables."""
    from antar.share.export import Options, export_run

    written = export_run(run, out, to, Options(dictionary, format, contrast, top))
    typer.echo(f"wrote {written} files under {out}")


def push(
    run: RunFolder,
    to: Annotated[
        str, typer.Option(help="A repository of the hub, or a folder beginning with ./ or /.", metavar="OWNER/NAME")
    ],
    dictionary: One = None,
    with_texts: Annotated[
        bool, typer.Option("--with-texts", help="The corpus and the examples too: whose licence allows it.")
    ] = False,
    with_activations: Annotated[
        bool, typer.Option("--with-activations", help="Activations and codes too, which are large.")
    ] = False,
    as_dataset: Annotated[
        bool, typer.Option("--as-dataset", help="Tables (and texts) as a dataset repository, instead of the run.")
    ] = False,
    license: Annotated[
        str | None, typer.Option(help="The licence that the card states, e.g. apache-2.0.", metavar="ID")
    ] = None,
    revision: Annotated[str, typer.Option(help="The branch to push to.", metavar="BRANCH")] = "main",
    public: Annotated[bool, typer.Option("--public", help="Where the repository is new: for everybody.")] = False,
) -> None:
    """Put a run, or one of its dictionaries, on the hub or into a folder, with a card. No texts unless asked for."""
    from antar.share.push import Push, push_run

    typer.echo(
        push_run(run, to, Push(dictionary, with_texts, with_activations, as_dataset, license, revision, public))
    )


def pull(
    source: Annotated[str, typer.Argument(help="OWNER/NAME@REVISION, or a folder.", metavar="REPO@REVISION")],
    to: Annotated[Path, typer.Option(help="A new folder.", metavar="DIR")],
    dataset: Annotated[bool, typer.Option("--dataset", help="It is a dataset repository.")] = False,
) -> None:
    """Fetch what `antar push` put there: at one commit, whole, and checked against its manifest."""
    from antar.share.pull import pull_run

    typer.echo(pull_run(source, to, dataset=dataset))
