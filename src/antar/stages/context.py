"""What every stage is given: the study, its run folder, the engine; and the names of what the study makes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from antar.core.atomic import write_json
from antar.core.machine import machine_facts, package_versions
from antar.core.manifest import MANIFEST_NAME, Manifest, read_manifest
from antar.core.sites import DictionaryId, Site
from antar.dictionaries.config import DictionaryConfig
from antar.engines import Engine
from antar.models.config import ModelConfig
from antar.study import Study

LOCK_FILE = "study.lock.json"


class NotReady(Exception):
    """An artifact cannot be fingerprinted yet, because the one that it is made from does not exist."""

    def __init__(self, needed: str) -> None:
        super().__init__(f"needs {needed}")
        self.needed = needed


@dataclass(frozen=True)
class Context:
    """study_folder: where the study file lies (its relative paths start there); folder: the run folder."""

    study: Study
    study_folder: Path
    folder: Path
    engine: Engine
    from_folder: Path | None = None

    # -- what is there ------------------------------------------------------------------------------------------

    def manifest(self, artifact: str) -> Manifest:
        """The manifest of an artifact folder that this one is made from."""
        manifest = read_manifest(self.folder / artifact / MANIFEST_NAME)
        if manifest is None:
            raise NotReady(artifact)
        return manifest

    def texts(self) -> pl.DataFrame:
        return pl.read_parquet(self.folder / "corpus" / "texts.parquet")

    def n_texts(self) -> int:
        return int(self.manifest("corpus").facts["n_texts"])

    def _lock(self) -> dict[str, Any]:
        try:
            lock = json.loads((self.folder / LOCK_FILE).read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return lock if isinstance(lock, dict) else {}

    def revisions(self) -> dict[str, str]:
        """`repository@revision` → the commit that this run reads, as its lock file has it."""
        return dict(self._lock().get("revisions", {}))

    def hub_folder(self) -> Path | None:
        """Where the hub's files were put by hand: as said now, or as said when the corpus was made."""
        said_before = self._lock().get("from_folder")
        return self.from_folder or (Path(said_before) if said_before else None)

    def write_lock(self, revisions: dict[str, str]) -> None:
        """Write the lock file: versions, machine, and `revisions` added to those that it has."""
        lock = {
            "study": self.study.study,
            "seed": self.study.seed,
            "revisions": dict(sorted((self.revisions() | revisions).items())),
            "from_folder": None if self.hub_folder() is None else str(self.hub_folder()),
            "versions": package_versions(),
            "machine": machine_facts(),
        }
        write_json(self.folder / LOCK_FILE, lock)

    # -- what the study makes -----------------------------------------------------------------------------------

    def models(self) -> dict[str, ModelConfig]:
        """Side → checkpoint, for every side whose activations are stored: base, chat and the shams."""
        models = self.study.models
        if models.organism is not None:
            folder = self.folder / "organism"
            sides = ["base", "chat", *(f"sham:{name}" for name in self.study.sham_names)]
            return {
                side: ModelConfig(path=str(folder / side.replace(":", "-")), name=self.study.names.get(side, side))
                for side in sides
            }
        assert models.base is not None and models.chat is not None  # the study file's own check
        shams = {f"sham:{name}": model for name, model in sorted(models.shams.items())}
        return {
            side: self._located(model) for side, model in {"base": models.base, "chat": models.chat, **shams}.items()
        }

    def _located(self, model: ModelConfig) -> ModelConfig:
        """A folder by its place relative to the study file; a hub model at the commit that this run pinned."""
        folder = self.study_folder / Path(model.path).expanduser()
        if folder.is_dir():
            return model.model_copy(update={"path": str(folder)})
        commit = self.revisions().get(lock_key(model.path, model.revision))
        return model.model_copy(update={"revision": commit or model.revision})

    def layers(self) -> list[int]:
        return sorted(self.study.extract.layers)

    def sites(self) -> list[Site]:
        """Sites with stored activations, in the order base, chat, shams; layer by layer."""
        return [Site(side, layer) for side in self.models() for layer in self.layers()]

    def dictionary_ids(self) -> list[DictionaryId]:
        """The study's nine, one on each sham's delta and layer, then the replicas for stability."""
        deltas = [f"delta:{name}" for name in self.study.sham_names]
        nine = [DictionaryId(side, layer) for side in ("base", "chat", "delta") for layer in self.layers()]
        null = [DictionaryId(side, layer) for side in deltas for layer in self.layers()]
        return nine + null + replicas(nine, self.study.dictionaries)

    def code_sets(self) -> list[tuple[DictionaryId, str]]:
        """(dictionary, side) for which codes are stored: each dictionary on its own side, and the base
        dictionaries on every other checkpoint too, because a shift needs one dictionary on both sides."""
        sets: list[tuple[DictionaryId, str]] = []
        for dictionary in self.dictionary_ids():
            if dictionary.is_replica:
                continue
            sets.append((dictionary, dictionary.trained_on))
            if dictionary.trained_on == "base":
                sets += [(dictionary, side) for side in self.models() if side != "base"]
        return sets


def lock_key(repository: str, revision: str | None) -> str:
    """How the lock file names what was asked for; two revisions of one repository are two entries."""
    return f"{repository}@{revision or 'main'}"


def replicas(dictionaries: list[DictionaryId], cfg: DictionaryConfig) -> list[DictionaryId]:
    """Other seeds and folds of `dictionaries`: criterion 7 compares them with the study's own."""
    made: list[DictionaryId] = []
    for one in dictionaries:
        made += [DictionaryId(one.trained_on, one.layer, one.kind, seed=seed + 1) for seed in range(cfg.seeds)]
        made += [DictionaryId(one.trained_on, one.layer, one.kind, fold=fold) for fold in range(cfg.folds)]
    return made


def config_slice(value: Any, *leave_out: str) -> dict[str, Any]:
    """A config model as JSON for a fingerprint, without the fields that cannot change the result."""
    return {key: item for key, item in value.model_dump(mode="json").items() if key not in leave_out}
