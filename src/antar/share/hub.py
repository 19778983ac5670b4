"""The hub, through huggingface_hub: names of repositories, and its errors in one line each.

Whatever goes wrong between here and the hub is somebody's to mend (a name, a token, a network), so it is a
`UserError` that says whose. A token comes from where huggingface_hub looks for one: $HF_TOKEN, or `hf auth login`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from antar.core.disk import disk_error
from antar.core.errors import UserError
from antar.share.checkpoints import HUB_NAME

if TYPE_CHECKING:
    from huggingface_hub import HfApi

TIMEOUT_SECONDS = 10.0
COMMIT = re.compile(r"[0-9a-f]{40}")
_FOLDER = re.compile(r"\.{1,2}(?:/|$)|/|~|[A-Za-z]:[\\/]")
AGAIN = "the same command goes on from here"


@dataclass(frozen=True)
class Repository:
    """A repository of the hub; kind: `model` or `dataset`."""

    name: str
    kind: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.name


def place_of(said: str, option: str, kind: str) -> Path | Repository:
    """What `said` names: a folder (`./x`, `/x`, `~/x`, or one that is there) or a repository (OWNER/NAME, with
    @REVISION behind it or not). Raises UserError where it is neither, or could be both."""
    if _FOLDER.match(said):
        return Path(said).expanduser()
    name, _, revision = said.removeprefix("hf://").partition("@")
    if said and Path(said).exists() and not said.startswith("hf://"):
        if HUB_NAME.fullmatch(name):
            raise UserError(
                f"{option}: expected a folder or a repository, found {said}, which is a folder here and could be a "
                f"repository; say ./{said} or hf://{said}"
            )
        return Path(said)
    if not HUB_NAME.fullmatch(name) or ".." in name or "--" in name or name.endswith(".git"):
        raise UserError(
            f"{option}: expected OWNER/NAME on the hub or a folder that begins with ./ or /, found {said!r}"
        )
    if not said.startswith("hf://") and Path(name.split("/")[0]).is_dir():
        raise UserError(
            f"{option}: expected a folder or a repository, found {said}, which could be a folder in "
            f"{name.split('/')[0]} or a repository; say ./{said} or hf://{said}"
        )
    return Repository(name, kind, revision or None)


def api() -> HfApi:
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    return HfApi(library_name="antar")


@contextmanager
def told_in_one_line(repository: Repository, doing: str) -> Generator[None]:
    """Errors of the hub and of the way there as a UserError. doing: `push to` or `pull from`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if problem := disk_error(error):
            raise problem from error
        if problem := _problem(repository, doing, error):
            raise UserError(problem) from error
        raise


def _problem(repository: Repository, doing: str, error: Exception) -> str | None:
    from huggingface_hub import errors

    what = f"{doing} {repository}"
    if isinstance(error, RuntimeError) and isinstance(error.__cause__, errors.HfHubHTTPError):
        error = error.__cause__  # it says which file of an upload failed, and this why
    token = "give one in $HF_TOKEN, or with `hf auth login`"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.LocalTokenNotFoundError):
        return f"{what}: expected a token of the hub, found none; {token}"
    if isinstance(error, errors.GatedRepoError):
        return f"{what}: expected access to a gated repository, found none; ask for it on its page, then {token}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{what}: expected a branch, tag or commit, found no {repository.revision or 'main'} in it"
    if isinstance(error, errors.RepositoryNotFoundError):
        return (f"{what}: expected a {repository.kind} repository, found none, or one that is private and that this "
                f"token may not see; check the name, or {token}")  # fmt: skip
    if status in (401, 403):
        why = "no token, or one that is not valid" if status == 401 else "a token that may not do this"
        return f"{what}: expected the right to, found {why}; {token}"
    if isinstance(error, errors.HfHubHTTPError) and status is not None:
        said = getattr(error, "server_message", None) or _first(error)
        again = f"; try again later, {AGAIN}" if status >= 500 or status == 429 else ""
        return f"{what}: expected an answer of the hub, found {status}: {said}{again}"
    if _of_the_network(error):
        return f"{what}: expected to reach the hub, found {_first(error)}; when the network is back, {AGAIN}"
    if isinstance(error, ValueError | OSError | KeyError | RuntimeError):
        return f"{what}: expected what the hub takes, found {_first(error)}"
    return None


def _of_the_network(error: BaseException | None) -> bool:
    """Whether it, or what it was raised from, is a connection that was not made, was cut or took too long; whichever
    HTTP client huggingface_hub brings."""
    from huggingface_hub import errors

    names = {"TransportError", "ConnectError", "TimeoutException", "RequestException", "NetworkError"}
    seen = 0
    while error is not None and seen < 8:
        if isinstance(error, errors.OfflineModeIsEnabled | ConnectionError | TimeoutError):
            return True
        if isinstance(error, errors.LocalEntryNotFoundError) or names & {one.__name__ for one in type(error).__mro__}:
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1
    return False


def _first(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")[:200]
