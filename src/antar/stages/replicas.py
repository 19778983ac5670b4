"""How many replicas a run has: as its study file says, or as `--folds` and `--seeds` said for this run folder.

What was given on a command line is remembered in the run's lock file, beside what the study file said then, so that a
later command without the options keeps the replicas that were asked for. The last word counts: options given again
replace it, and a study file whose own numbers have been changed since takes over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from antar.core.errors import UserError
from antar.study import Study

LOCK_KEY = "replicas"


@dataclass(frozen=True)
class Counts:
    """folds: parts that the training documents are cut into, a replica each; seeds: replicas with other seeds."""

    folds: int
    seeds: int

    @classmethod
    def of(cls, study: Study) -> Counts:
        return cls(study.dictionaries.folds, study.dictionaries.seeds)

    @classmethod
    def read(cls, value: Any) -> Counts | None:
        """From the lock file; None where it does not hold them."""
        if not isinstance(value, Mapping):
            return None
        folds, seeds = value.get("folds"), value.get("seeds")
        return cls(folds, seeds) if isinstance(folds, int) and isinstance(seeds, int) else None

    def __str__(self) -> str:
        folds = f"{self.folds} fold{'' if self.folds == 1 else 's'}"
        return f"{folds} and {self.seeds} other seed{'' if self.seeds == 1 else 's'}"


@dataclass(frozen=True)
class Replicas:
    """wanted: what this run has; in_file: what its study file says."""

    wanted: Counts
    in_file: Counts

    def lock_entry(self) -> dict[str, dict[str, int]]:
        return {"wanted": vars(self.wanted).copy(), "in_file": vars(self.in_file).copy()}

    def applied(self, study: Study) -> Study:
        changed = {"folds": self.wanted.folds, "seeds": self.wanted.seeds}
        return study.model_copy(update={"dictionaries": study.dictionaries.model_copy(update=changed)})

    @property
    def line(self) -> str:
        return (
            f"replicas: {self.wanted}, as --folds and --seeds said for this run folder "
            f"(the study file says {self.in_file})"
        )


def wanted_replicas(
    study: Study, lock: Mapping[str, Any], folds: int | None = None, seeds: int | None = None
) -> Replicas | None:
    """The replicas that a run has against its study file; None where the study file decides.

    folds, seeds: as given now; None where not given. Raises UserError for numbers that no study can have.
    """
    in_file = Counts.of(study)
    before = _remembered(lock, in_file) or in_file
    wanted = Counts(before.folds if folds is None else folds, before.seeds if seeds is None else seeds)
    _check(study, wanted)
    return None if wanted == in_file else Replicas(wanted, in_file)


def without_replicas(study: Study) -> Study:
    none = Counts(0, 0)
    return Replicas(none, Counts.of(study)).applied(study)


def _remembered(lock: Mapping[str, Any], in_file: Counts) -> Counts | None:
    entry = lock.get(LOCK_KEY)
    if not isinstance(entry, Mapping) or Counts.read(entry.get("in_file")) != in_file:
        return None
    return Counts.read(entry.get("wanted"))


def _check(study: Study, wanted: Counts) -> None:
    """By the study file's own rules."""
    raw = study.dictionaries.model_dump() | {"folds": wanted.folds, "seeds": wanted.seeds}
    try:
        type(study.dictionaries).model_validate(raw)
    except ValidationError as error:
        problem = error.errors()[0]
        message = str(problem["msg"]).removeprefix("Value error, ")
        name = "" if "folds" in message else f"{problem['loc'][-1] if problem['loc'] else 'replicas'}: "
        raise UserError(f"--folds {wanted.folds} --seeds {wanted.seeds}: {name}{message}") from error
