"""Artifacts: the complete-or-absent outputs of a run, and the two ways of making one.

`ensure_files` makes an artifact in one go; `ensure_shards` makes sharded ones through an engine, keeping the
shards that are already whole. Both skip what is fresh, say why they redo what is not, take the old manifest away
before they touch a file, and write the new one last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from antar.core.manifest import (
    MANIFEST_NAME,
    Fingerprint,
    Manifest,
    damaged_files,
    read_manifest,
    why_stale,
    write_manifest,
)
from antar.core.progress import say
from antar.core.shards import shard_is_whole, shard_name, shard_paths
from antar.engines import Engine, ShardTask

NOT_MADE = "not made yet"


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


def ensure_shards(
    artifacts: Sequence[Artifact],
    n_shards: int,
    task: ShardTask,
    engine: Engine,
    facts: Callable[[Artifact], Mapping[str, Any]] = lambda _: {},
) -> list[Manifest]:
    """Make `artifacts` that one task fills together: `task(shard)` writes shard `shard` of every one of them.

    Shards that are whole and carry their artifact's fingerprint are kept; the others go through `engine`.
    """
    states = [artifact.state() for artifact in artifacts]
    made = [state.manifest for state in states if state.manifest is not None and state.fresh]
    if len(made) == len(states):
        return made
    _announce([state for state in states if not state.fresh])
    for state in states:
        if not state.fresh:
            _take_away(state)
    missing = [shard for shard in range(n_shards) if not _shard_everywhere(artifacts, shard)]
    engine.map(task, missing)
    return [_seal(artifact, n_shards, facts(artifact)) for artifact in artifacts]


def _shard_everywhere(artifacts: Sequence[Artifact], shard: int) -> bool:
    name = shard_name(shard)
    return all(shard_is_whole(a.folder / name, a.fingerprint.sha256) for a in artifacts)


def _seal(artifact: Artifact, n_shards: int, facts: Mapping[str, Any]) -> Manifest:
    files = [artifact.folder / shard_name(shard) for shard in range(n_shards)]
    for extra in set(shard_paths(artifact.folder)) - set(files):
        extra.unlink()  # from an earlier, longer version of this artifact
    return write_manifest(artifact.manifest_path, artifact.name, artifact.fingerprint, files, facts)
