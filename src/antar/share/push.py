"""`antar push`: a run, one of its dictionaries or its tables, to the hub or into a folder, with a card.

On the hub everything is one commit, so it is whole or absent there too. Files that are there already are not sent
again: a push that was cut off goes on.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from antar.core.errors import UserError
from antar.core.progress import say
from antar.core.sites import DictionaryId
from antar.run import Run, load_run
from antar.share.card import dataset_card, dictionary_card, run_card
from antar.share.contents import Ask, dataset_parcel, dictionary_parcel, run_parcel
from antar.share.data import configurations
from antar.share.hub import Repository, api, place_of, told_in_one_line
from antar.share.parcel import Parcel, write_files
from antar.share.place import new_folder
from antar.stages.export import refuse_inside


@dataclass(frozen=True)
class Push:
    """What was asked for. license: what the card states; public: of a repository that is made now."""

    dictionary: str | None = None
    texts: bool = False
    activations: bool = False
    dataset: bool = False
    license: str | None = None
    revision: str = "main"
    public: bool = False


def push_run(run_folder: Path, to: str, asked: Push) -> str:
    """Push; returns the line that says what went where."""
    if asked.dataset and (asked.dictionary is not None or asked.activations):
        raise UserError("--as-dataset: expected alone or with --with-texts; tables are of the whole run")
    if asked.dictionary is not None and asked.activations:
        raise UserError("--with-activations: expected with a whole run, found --dictionary beside it")
    run = load_run(run_folder)
    place = place_of(to, "--to", "dataset" if asked.dataset else "model")
    if isinstance(place, Path):
        refuse_inside(run, place, "--to")
    elif place.revision is not None:
        raise UserError(f"--to: expected OWNER/NAME, found {to}; name the branch with --revision")
    parcel, card = _made(run, asked)
    files = parcel.finished(card)
    what = f"{parcel.kind} {parcel.name}, {len(files)} files, {parcel.bytes / 2**20:,.1f} MiB"
    if isinstance(place, Path):
        with new_folder(place, "--to") as folder:
            write_files(files, folder)
        _say_what_stays(asked)
        return f"wrote {what} to {place}"
    with _licence_told(place, asked):
        commit = _upload(place, files, asked, f"antar: {what}")
    _say_what_stays(asked)
    return f"pushed {what} to {place}@{commit}"


def _say_what_stays(asked: Push) -> None:
    if not asked.texts:
        say("  texts and examples stayed here; --with-texts sends them, where their licence allows it")


@contextmanager
def _licence_told(place: Repository, asked: Push) -> Generator[None]:
    """The hub's refusal of a licence that it does not know, as one of what was asked for."""
    try:
        yield
    except UserError as problem:
        # The hub says which key of the card's front matter is wrong in the lines after its first.
        if asked.license is None or '"license"' not in str(problem.__cause__):
            raise
        raise UserError(
            f"--license: expected a licence that the hub knows (apache-2.0, mit, cc-by-4.0, other …), found "
            f"{asked.license!r}, which {place} refuses; name another, or leave it out"
        ) from problem


def _made(run: Run, asked: Push) -> tuple[Parcel, str]:
    ask = Ask(asked.texts, asked.activations)
    if asked.dataset:
        parcel = dataset_parcel(run, ask)
        return parcel, dataset_card(run, configurations(parcel.files), asked.texts, asked.license)
    if asked.dictionary is None:
        return run_parcel(run, ask), run_card(run, asked.texts, asked.license)
    one = DictionaryId.parse(asked.dictionary)
    parcel = dictionary_parcel(run, one, ask)
    saelens = any(name.startswith("saelens/") for name in parcel.files)
    return parcel, dictionary_card(run, one, asked.texts, saelens, asked.license)


def _upload(repository: Repository, files: Mapping[str, Path | bytes], asked: Push, message: str) -> str:
    """Make the repository where there is none, and add `files` in one commit; returns its sha."""
    from huggingface_hub import CommitOperationAdd

    hub = api()
    with told_in_one_line(repository, "push to"), warnings.catch_warnings():
        # It wonders about parquet in a model's repository, file by file; tables are meant.
        warnings.filterwarnings("ignore", message=".*commit a data file.*", category=UserWarning)
        hub.create_repo(repository.name, repo_type=repository.kind, private=not asked.public, exist_ok=True)
        if asked.revision != "main":
            hub.create_branch(repository.name, branch=asked.revision, repo_type=repository.kind, exist_ok=True)
        made = hub.create_commit(
            repository.name,
            [CommitOperationAdd(name, source) for name, source in files.items()],
            commit_message=message,
            repo_type=repository.kind,
            revision=asked.revision,
        )
        return made.oid
