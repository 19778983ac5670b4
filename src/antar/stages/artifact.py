"""Artifacts: the complete-or-absent outputs of a run, and the two ways of making one.

`ensure_files` makes an artifact in one go; `ensure_all` makes sharded ones through an engine, keeping the shards that
are already whole. Both skip what is fresh, say why they redo what is not, take the old manifest away before they
touch a file, and write the new one last. `make_part` makes some of the shards with no engine and writes no manifest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from antar.core.errors import UserError
from antar.core.manifest import (
    MANIFEST_NAME,
    Fingerprint,
    Manifest,
    damaged_files,
    read_manifest,
    why_stale,
    write_manifest,
)
from antar.core.progress import ShardBar, say
from antar.core.shards import shard_fingerprint, shard_is_whole, shard_name, shard_paths
from antar.engines import Engine, InlineEngine, Job, Needs, ShardTask
from antar.engines.base import NO_NEEDS, nothing
from antar.stages.parts import Part

NOT_MADE = "not made yet"
SEEN_SECONDS = 90.0


@dataclass(frozen=True)
class Artifact:
    """name: as a person says it, e.g. `activations/base.layer06`; folder: where its manifest lies."""

    name: str
    folder: Path
    fingerprint: Fingerprint
    manifest_name: str = MANIFEST_NAME

    @property
    def manifest_path(self) -> Path:
        return self.folder / self.manifest_name

    def state(self) -> State:
        manifest = read_manifest(self.manifest_path)
        reason = why_stale(manifest, self.fingerprint)
        if manifest is None and self.manifest_path.exists():
            reason = f"{self.manifest_name} is damaged"
        elif manifest is not None and manifest.artifact != self.name:
            reason = f"{self.manifest_name} is that of {manifest.artifact}"
        damage = damaged_files(self.manifest_path, manifest) if manifest and reason is None else {}
        return State(self, manifest, reason, damage)


@dataclass(frozen=True)
class State:
    """stale: why the artifact must be redone, or None; damage: file → missing, truncated or edited."""

    artifact: Artifact
    manifest: Manifest | None
    stale: str | None
    damage: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def fresh(self) -> bool:
        return self.stale is None and not self.damage

    def why(self) -> list[str]:
        """One line for each reason to redo (part of) the artifact."""
        if self.fresh:
            return []
        if self.stale is not None:
            return [f"{self.artifact.name}: {self.stale}"]
        return [f"{self.artifact.name}/{name}: {what}, made again" for name, what in self.damage.items()]


def _take_away(state: State) -> None:
    """The damaged files first: were they to stay when a kill comes in between, nothing would say what they are."""
    for name in state.damage:
        (state.artifact.folder / name).unlink(missing_ok=True)
    state.artifact.manifest_path.unlink(missing_ok=True)


def _announce(states: Sequence[State]) -> None:
    for state in states:
        # What is made for the first time needs no line; what is made again does.
        if state.stale != NOT_MADE:
            for line in state.why():
                say(f"  {line}")


def ensure_files(artifact: Artifact, make: Callable[[], tuple[Sequence[Path], Mapping[str, Any]]]) -> Manifest:
    """Return the manifest of a fresh `artifact`, calling `make() -> (files, facts)` first when it is not fresh."""
    state = artifact.state()
    if state.manifest is not None and state.fresh:
        return state.manifest
    _announce([state])
    _take_away(state)
    files, facts = make()
    return write_manifest(artifact.manifest_path, artifact.name, artifact.fingerprint, list(files), facts)


@dataclass(frozen=True)
class Sharded:
    """Artifacts that one task fills together: its shard `s` is shard `s` of every one of them.

    name: what a person calls them together; start: gives the task (see `Job`); facts: for each manifest, asked when
    all shards are there; bar: told of the shards that are made and of those that are kept
    """

    name: str
    artifacts: Sequence[Artifact]
    n_shards: int
    start: Callable[[], ShardTask]
    facts: Callable[[Artifact], Mapping[str, Any]] = lambda _: {}
    bar: ShardBar | None = None

    def lacking(self, among: Sequence[int]) -> list[int]:
        """Those of the shards `among` that are not whole, or not of these artifacts, everywhere. The bar hears of all
        other shards, that they are not to be made."""
        lacking = [shard for shard in among if not _shard_everywhere(self.artifacts, shard)]
        if self.bar is not None:
            for kept in sorted(set(range(self.n_shards)) - set(lacking)):
                self.bar.kept(kept)
        return lacking

    def job(self, shards: Sequence[int]) -> Job:
        return Job(self.name, self.start, shards, nothing if self.bar is None else self.bar.done)


def ensure_all(works: Sequence[Sharded], engine: Engine, needs: Needs = NO_NEEDS) -> list[list[Manifest]]:
    """Make the artifacts of `works`, all their shards in one go through `engine`; for each, its artifacts' manifests.

    Shards that are whole and carry their artifact's fingerprint are kept. No work may read what another one makes.
    """
    states = [[artifact.state() for artifact in work.artifacts] for work in works]
    stale = [at for at, of_work in enumerate(states) if not all(state.fresh for state in of_work)]
    for state in (state for at in stale for state in states[at]):
        if not state.fresh:
            _announce([state])
            _take_away(state)
    lacking = [work.lacking(range(work.n_shards) if at in stale else []) for at, work in enumerate(works)]
    engine.map([work.job(shards) for work, shards in zip(works, lacking, strict=True)], needs)
    made: list[list[Manifest]] = []
    for at, work in enumerate(works):
        if at in stale:
            made.append([_seal(work, artifact, engine) for artifact in work.artifacts])
        else:
            made.append([state.manifest for state in states[at] if state.manifest is not None])
    return made


def make_part(work: Sharded, part: Part) -> int:
    """Make the shards of `part` that are lacking, here and now; how many that were. Writes no manifest.

    Other parts may be at work in the same folders, so nothing is swept; a run seals what the parts made.
    """
    for artifact in work.artifacts:
        if not artifact.state().fresh:
            artifact.manifest_path.unlink(missing_ok=True)
    lacking = work.lacking(part.shards(work.n_shards))
    InlineEngine().map([work.job(lacking)])
    return len(lacking)


def await_shared(paths: Sequence[Path], engine: Engine) -> None:
    """Wait until `paths`, which workers have written, are seen here. Raises UserError for what does not appear.

    A network file system may show another machine's new file late (NFS remembers for half a minute that a name was
    not there); on this machine's own disk there is nothing to wait for.
    """
    deadline = time.monotonic() + (0 if engine.local else SEEN_SECONDS)
    for path in paths:
        while not path.exists():
            if time.monotonic() > deadline:
                raise UserError(
                    f"{path}: expected what a worker has made, found nothing; the run folder must be on storage that "
                    "this machine and the workers share"
                )
            time.sleep(0.5)


def _shard_everywhere(artifacts: Sequence[Artifact], shard: int) -> bool:
    name = shard_name(shard)
    return all(shard_is_whole(a.folder / name, a.fingerprint.sha256) for a in artifacts)


def _seal(work: Sharded, artifact: Artifact, engine: Engine) -> Manifest:
    files = [artifact.folder / shard_name(shard) for shard in range(work.n_shards)]
    await_shared(files, engine)
    for extra in set(shard_paths(artifact.folder)) - set(files):
        extra.unlink()  # from an earlier, longer version of this artifact
    for file in files:
        if shard_fingerprint(file) != artifact.fingerprint.sha256:
            raise UserError(
                f"{file}: expected the shard that was made now, found another's; another antar (a worker of a run "
                "that was killed, or a run where there are no locks) writes here: stop it and run the same command"
            )
    facts = work.facts(artifact)  # not before: they are read from the shards that are there
    return write_manifest(artifact.manifest_path, artifact.name, artifact.fingerprint, files, facts)
