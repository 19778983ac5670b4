"""What every stage is given: the study, its run folder, the engine; and the names of what the study makes."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from antar.core.atomic import write_json
from antar.core.errors import UserError
from antar.core.hashing import sha256_json
from antar.core.machine import machine_facts, package_versions
from antar.core.manifest import MANIFEST_NAME, Manifest, read_manifest
from antar.core.sites import BASELINE_KINDS, UNTRAINED, DictionaryId, Site
from antar.core.sparse import CodeSource, SparseCodes
from antar.dictionaries.config import DictionaryConfig
from antar.engines import Engine, InlineEngine, Needs, TaskConfig
from antar.features.codes import StoredCodes, StrongerCodes, read_codes
from antar.models.config import ModelConfig
from antar.stages.parts import Part
from antar.stages.replicas import LOCK_KEY, Replicas
from antar.study import Study

LOCK_FILE = "study.lock.json"
SEAL = "seal"
"""The checksum of the rest of the lock file."""


class NotReady(Exception):
    """An artifact cannot be fingerprinted yet, because the one that it is made from does not exist."""

    def __init__(self, needed: str) -> None:
        super().__init__(f"needs {needed}")
        self.needed = needed


@dataclass(frozen=True)
class Context:
    """study_folder: where the study file lies (its relative paths start there); folder: the run folder;
    replicas_as_said: where a command line decided how many there are; `study` has those numbers.
    label_limit: a first look at the labels of so many features; part: of the stage's shards, for array jobs."""

    study: Study
    study_folder: Path
    folder: Path
    engine: Engine
    from_folder: Path | None = None
    replicas_as_said: Replicas | None = None
    label_limit: int | None = None
    part: Part | None = None

    # -- where the work is done ---------------------------------------------------------------------------------

    def apart(self) -> Context:
        """What a task takes along to wherever it runs: what it makes there, it makes in one process."""
        return replace(self, engine=InlineEngine(), part=None)

    def needs(self, task: TaskConfig, device: str = "cpu", threads: int | None = None) -> Needs:
        """What a task of a stage asks its engine for; `device` and `threads` are the stage's own settings."""
        if not self.engine.local and ":" in device:
            raise UserError(
                f"device: expected auto, cuda or cpu with --engine {self.engine.name}, which hands out the GPUs, "
                f"found {device}"
            )
        return Needs(task.cpus, 0.0 if device == "cpu" else task.gpus, threads, self.folder)

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

    def revisions(self) -> dict[str, str]:
        """`repository@revision` → the commit that this run reads, as its lock file has it."""
        return dict(read_lock(self.folder).get("revisions", {}))

    def hub_folder(self) -> Path | None:
        """Where the hub's files were put by hand: as said now, or as said when the corpus was made."""
        said_before = read_lock(self.folder).get("from_folder")
        return self.from_folder or (Path(said_before) if said_before else None)

    def write_lock(self, revisions: dict[str, str]) -> None:
        """Write the lock file: versions, machine, and `revisions` added to those that it has."""
        lock = {
            "study": self.study.study,
            "seed": self.study.seed,
            "revisions": dict(sorted((self.revisions() | revisions).items())),
            "from_folder": None if self.hub_folder() is None else str(self.hub_folder()),
            LOCK_KEY: self.replicas_as_said.lock_entry() if self.replicas_as_said else None,
            "versions": package_versions(),
            "machine": machine_facts(),
        }
        write_json(self.folder / LOCK_FILE, lock | {SEAL: sha256_json(lock)})

    # -- what the study makes -----------------------------------------------------------------------------------

    def models(self) -> dict[str, ModelConfig]:
        """Side → checkpoint, for every side whose activations are stored: base, chat, the shams, random weights."""
        found = self._trained_models()
        weights = self.study.models.random_weights
        if weights is not None:
            about = {"random_weights": weights.seed, "name": f"{found['base'].display}, random weights"}
            found[UNTRAINED] = found["base"].model_copy(update=about)
        return found

    def _trained_models(self) -> dict[str, ModelConfig]:
        models = self.study.models
        if models.organism is not None:
            folder = self.folder / "organism"
            sides = ["base", "chat", *(f"sham:{name}" for name in self.study.sham_names)]
            return {
                side: ModelConfig(path=str(folder / side.replace(":", "-")), name=self.study.names.get(side, side))
                for side in sides
            }
        assert models.base is not None and models.chat is not None  # the study file's own check
        given = {"base": self._located(models.base), "chat": self._located(models.chat)}
        shams = {name: self._located(model) for name, model in models.given_shams.items()}
        for name in models.made_shams:
            shams[name] = ModelConfig(path=str(self.sham_folder(name)), name=f"sham {name}")
        return given | {f"sham:{name}": shams[name] for name in self.study.sham_names}

    def sham_folder(self, name: str) -> Path:
        """Where a sham that antar makes lies."""
        return self.folder / "shams" / name

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
        """Each kind on each side and layer, the baselines on base and delta, those that others trained, those on each
        sham's delta and on the model of random weights, then the replicas for stability.

        A crosscoder is of both sides, so there is one a layer. Nulls have no shams and no replicas of their own.
        """
        cfg = self.study.dictionaries
        kinds = [None if kind == "topk" else kind for kind in cfg.kinds if kind != "crosscoder"]
        trained = [kind for kind in kinds if kind not in BASELINE_KINDS]
        own = [DictionaryId(side, layer, kind) for side in cfg.sides for layer in self.layers() for kind in kinds]
        bare = [kind for kind in cfg.baselines if kind not in kinds]
        sides = [side for side in cfg.sides if side in ("base", "delta")]
        own += [DictionaryId(side, layer, kind) for side in sides for layer in self.layers() for kind in bare]
        if "crosscoder" in cfg.kinds:
            own += [DictionaryId("joint", layer, "crosscoder") for layer in self.layers()]
        imported = [DictionaryId(one.side, one.layer, one.kind) for one in cfg.imported]
        nulls = [f"delta:{name}" for name in self.study.sham_names] if "delta" in cfg.sides else []
        nulls += [UNTRAINED] if self.study.models.random_weights is not None else []
        null = [DictionaryId(side, layer, kind) for side in nulls for layer in self.layers() for kind in trained]
        return own + imported + null + replicas([one for one in own if not one.is_baseline], cfg)

    def code_sets(self) -> list[tuple[DictionaryId, str]]:
        """(dictionary, side) for which codes are stored: each dictionary on its own side, and those trained on
        base, or on both sides' rows, on every checkpoint, because a shift needs one dictionary on both sides."""
        sets: list[tuple[DictionaryId, str]] = []
        trained = [side for side in self.models() if side != UNTRAINED]
        for dictionary in self.dictionary_ids():
            if dictionary.is_replica:
                continue
            if dictionary.trained_on == "base" or dictionary.is_joint_rows:
                sets += [(dictionary, side) for side in trained if not (dictionary.is_baseline and ":" in side)]
            else:
                sets.append((dictionary, dictionary.trained_on))
                if dictionary.is_imported and dictionary.trained_on == "delta":  # the shams' deltas have none of it
                    sets += [(dictionary, f"delta:{name}") for name in self.study.sham_names]
        return sets

    # -- codes --------------------------------------------------------------------------------------------------

    def codes(self, dictionary: DictionaryId, side: str) -> SparseCodes:
        """The stored codes of all texts at `side`."""
        return read_codes(self.folder, dictionary, side, self._n_latents(dictionary))

    def stored_codes(self, dictionary: DictionaryId, side: str) -> StoredCodes:
        """`codes`, left on the disk."""
        return StoredCodes(self.folder, dictionary, side, self._n_latents(dictionary), self.n_texts())

    def own_stored_codes(self, dictionary: DictionaryId) -> CodeSource:
        """`own_codes`, left on the disk."""
        if not dictionary.is_joint_rows:
            return self.stored_codes(dictionary, dictionary.trained_on)
        return StrongerCodes(self.stored_codes(dictionary, "base"), self.stored_codes(dictionary, "chat"))

    def _n_latents(self, dictionary: DictionaryId) -> int:
        metrics = json.loads((self.folder / "dictionaries" / dictionary.folder / "metrics.json").read_bytes())
        return int(metrics["n_latents"])

    def own_codes(self, dictionary: DictionaryId) -> SparseCodes:
        """One code a text: at the side that the dictionary was trained on. Of one that was trained on both sides'
        rows, the stronger of its base and chat codes, so that a latent that fires on either counts."""
        if not dictionary.is_joint_rows:
            return self.codes(dictionary, dictionary.trained_on)
        return self.codes(dictionary, "base").maximum(self.codes(dictionary, "chat"))


def read_lock(folder: Path) -> dict[str, Any]:
    """The lock file of the run in `folder`; empty where there is none. Raises UserError for a damaged one: which
    commits a run reads is told by nothing else."""
    path = folder / LOCK_FILE
    try:
        lock = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError:
        lock = None
    if isinstance(lock, dict) and lock.pop(SEAL, None) in (None, sha256_json(lock)):
        return lock
    raise UserError(
        f"{path}: expected the file that antar wrote, found it damaged; put it back from a copy, or remove it: then "
        "models and data sets are pinned anew, and --folds, --seeds and --from-folder must be said again"
    )


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
