"""Which commit of the hub a checkpoint is, found fast or not at all.

transformers retries an unreachable hub for half a minute a file. Here one question with a short time limit decides;
then the local cache; then a line that says what to do.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from antar.core.errors import UserError

TIMEOUT_SECONDS = 10.0


@cache
def resolve_commit(repo: str, revision: str | None) -> str:
    """The commit sha of `repo` at `revision` (null: `main`), asked once a process.

    A commit that is already in the local cache needs no question. Raises UserError when the repository does not
    exist, and when the hub cannot be reached and the cache has no such revision.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    cached = cached_commit(repo, revision)
    if cached is not None and revision is not None and re.fullmatch(r"[0-9a-f]{40}", revision):
        return cached
    try:
        sha = HfApi().model_info(repo, revision=revision, timeout=TIMEOUT_SECONDS).sha
    except RevisionNotFoundError as error:
        raise UserError(f"{repo}: the hub has no revision {revision!r}; correct it in the study's models") from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"{repo}: neither a folder here nor a model that the hub shows you; correct the path in the study's "
            "models, or log in to the hub if the model is gated"
        ) from error
    except Exception as error:  # the HTTP library's own classes: DNS, proxy, TLS, time-out, 5xx
        if cached is not None:
            return cached
        raise UserError(
            f"{repo}: expected this model on the hub, found the hub unreachable ({type(error).__name__}) and no copy "
            "in the local cache; put the model's files into a folder and write that folder as `path` in the study"
        ) from error
    if sha is None:
        raise UserError(
            f"{repo}: the hub gave no commit for revision {revision or 'main'!r}; write a commit in the study"
        )
    return sha


def cached_commit(repo: str, revision: str | None) -> str | None:
    """The commit whose `config.json` the local hub cache holds for `revision`; None when it holds none."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, "config.json", revision=revision)
    return Path(found).parent.name if isinstance(found, str) else None
