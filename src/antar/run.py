"""A run, opened for reading: every table and array of a run folder under one name, loaded when first asked for.

Notebooks, the report and the browser read runs through this and nothing else, so the layout of a run folder is
known in one place. What a stage has not made yet is a one-line error that names the command which makes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import yaml

from antar.core.errors import UserError
from antar.core.manifest import Manifest, read_manifest
from antar.core.origin import Origin, origin_of
from antar.core.shards import shard_paths
from antar.core.sites import IMPORTED, UNTRAINED, DictionaryId, Site, codes_folder
from antar.interpret.records import (
    read_controls,
    read_keywords,
    read_labels,
    read_predictions,
    read_saebench,
    read_verdicts,
)

if TYPE_CHECKING:
    from antar.core.sparse import SparseCodes
    from antar.criteria.benchmarks import Benchmarks
    from antar.dictionaries import Dictionary
    from antar.features.counterparts import Share
    from antar.features.magnitude import Magnitude
    from antar.models.token_rows import TokenSite

STAGE_OF = {
    "corpus": "corpus",
    "shams": "sham",
    "activations": "extract",
    "dictionaries": "train",
    "codes": "features",
    "features/features.parquet": "features",
    "features/examples.parquet": "features",
    "features/geometry.json": "features",
    "features": "measure",
    "interpret": "interpret",
    "criteria.json": "measure",
}
"""First part of a path in a run folder (or the path) → the command that makes it."""

SHARE_NAME = "antar-share.json"
"""In a run that was pulled: what was pushed."""
LEFT_OUT = ("corpus/texts.parquet", "features/examples.parquet")
"""What a push leaves out unless it is asked for."""


@dataclass(frozen=True)
class Run:
    """A run folder. Tables are polars frames, arrays are numpy; each is read once and kept.

    Row i of `texts`, of every `activations(...)` and of every `codes(...)` is the same text.
    """

    folder: Path

    def has(self, name: str) -> bool:
        """Whether the file or folder `name` (relative to the run folder) has been made."""
        return (self.folder / name).exists()

    @cached_property
    def study(self) -> dict[str, Any]:
        """The resolved study, as in `study.yaml`."""
        path = self.folder / "study.yaml"
        try:
            study = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise UserError(f"{path}: expected YAML, found {_one_line(error)}; run the study again") from error
        if not isinstance(study, dict):
            raise UserError(f"{path}: expected a study, found {type(study).__name__}; run the study again")
        return study

    @cached_property
    def lock(self) -> dict[str, Any]:
        """Versions, revisions, seeds and hardware as they were (`study.lock.json`); empty when not written."""
        return self._json("study.lock.json") if self.has("study.lock.json") else {}

    @cached_property
    def texts(self) -> pl.DataFrame:
        return self._parquet("corpus/texts.parquet")

    @cached_property
    def features(self) -> pl.DataFrame:
        """One row for each latent of every dictionary that is not a replica."""
        return self._parquet("features/features.parquet")

    @cached_property
    def examples(self) -> pl.DataFrame:
        """The strongest texts of each live feature; `pool` says who may see them."""
        return self._parquet("features/examples.parquet")

    @cached_property
    def contrasts(self) -> pl.DataFrame:
        """Long: one row for each contrast × dictionary × language × latent, `null` "" for the real one."""
        return self._parquet("features/contrasts.parquet")

    @cached_property
    def labels(self) -> pl.DataFrame:
        """One row a labelled feature; `label` is null where its examples are incoherent."""
        return read_labels(self._path("interpret/labels.jsonl").parent)

    @cached_property
    def verdicts(self) -> pl.DataFrame:
        """One row a validated feature."""
        return read_verdicts(self._path("interpret/verdicts.jsonl").parent)

    @cached_property
    def predictions(self) -> pl.DataFrame:
        return read_predictions(self._path("interpret/predictions.jsonl").parent)

    @cached_property
    def keyword_labels(self) -> pl.DataFrame:
        """The keywords' labels where a language model labelled; empty elsewhere, where `labels` has them."""
        return read_keywords(self.folder / "interpret")

    @cached_property
    def controls(self) -> pl.DataFrame:
        """Labels whose truth is known, and a language model's verdicts on them; empty where none validated."""
        return read_controls(self.folder / "interpret")

    @cached_property
    def saebench(self) -> pl.DataFrame:
        """SAEBench's form of prediction, one row a feature and predictor; empty where none was asked for."""
        return read_saebench(self.folder / "interpret")

    @cached_property
    def criteria(self) -> dict[str, Any]:
        return self._json("criteria.json")

    @cached_property
    def benchmarks(self) -> Benchmarks | None:
        """What SAEBench's own evaluations said, as criteria.json has it; None where they were not run."""
        from antar.criteria.benchmarks import Benchmarks

        found = self.criteria.get("saebench")
        return None if found is None else Benchmarks.model_validate(found)

    @cached_property
    def geometry(self) -> list[dict[str, Any]]:
        """For each site: participation ratio, PCA-90% rank, mean norm, share of the energy."""
        return self._json("features/geometry.json")

    @cached_property
    def coherence(self) -> pl.DataFrame:
        """`feature, coherence, coherence_by_texts` of live features; empty in a run of before it was kept."""
        if not self.has("features/coherence.parquet"):
            return pl.DataFrame(
                schema={"feature": pl.String, "coherence": pl.Float64, "coherence_by_texts": pl.Float64}
            )
        return self._parquet("features/coherence.parquet")

    @cached_property
    def energy(self) -> pl.DataFrame:
        """Energy of the shift of each delta side at each layer: by group, by facet value, by language."""
        return self._parquet("features/energy.parquet")

    @cached_property
    def magnitudes(self) -> list[Magnitude]:
        """The whole and the cultural shift with intervals, chat's delta first; empty where not measured."""
        from antar.features.magnitude import Magnitude

        if not self.has("features/magnitudes.json"):
            return []
        return [Magnitude(**row) for row in self._json("features/magnitudes.json")]

    @cached_property
    def crosscheck(self) -> dict[str, Any] | None:
        """How the chosen features fire on the cross-check's texts; None for a corpus without such a source."""
        return self._json("features/crosscheck.json") if self.has("features/crosscheck.json") else None

    @cached_property
    def matches(self) -> pl.DataFrame:
        """Base's live features and their counterparts in chat's dictionary (`null` "") and in another seed of base's
        own (`other_seed`); unmatched ones have nulls."""
        return self._parquet("features/matches.parquet")

    @cached_property
    def counterparts(self) -> list[Share]:
        """How many have one, a row for each pair of dictionaries; empty where none was compared."""
        from antar.features.counterparts import Share

        if not self.has("features/matches.json"):
            return []
        return [Share(**row) for row in self._json("features/matches.json")]

    @cached_property
    def baselines(self) -> pl.DataFrame:
        """The best delta features beside what needs no dictionary (features/beyond.py says the columns); empty where
        not measured."""
        if not self.has("features/baselines.parquet"):
            from antar.features.beyond import SCHEMA

            return pl.DataFrame(schema=SCHEMA)
        return self._parquet("features/baselines.parquet")

    @cached_property
    def truth(self) -> dict[str, Any] | None:
        """The check against the planted truth; None where nothing was planted."""
        return self._json("truth_report.json") if self.has("truth_report.json") else None

    @cached_property
    def made_shams(self) -> list[dict[str, Any]]:
        """What became of each sham that antar made for this study (its `sham.json`): drift at each layer beside
        chat's, factors, steps; empty where the shams were given or came with an organism."""
        models = self.study.get("models")
        shams = models.get("shams") if isinstance(models, Mapping) else None
        made = sorted(name for name, sham in (shams or {}).items() if isinstance(sham, Mapping) and "make" in sham)
        return [self._json(f"shams/{name}/sham.json") for name in made if self.has(f"shams/{name}/sham.json")]

    @cached_property
    def names(self) -> dict[str, str]:
        """What the study calls its two checkpoints, e.g. {"base": "SmolLM2", "chat": "its fine-tune"}."""
        models = self.study.get("models")
        given = models.get("names") if isinstance(models, Mapping) else None
        return {"base": "base", "chat": "chat"} | (dict(given) if isinstance(given, Mapping) else {})

    @cached_property
    def dictionary_ids(self) -> list[DictionaryId]:
        """Every dictionary of the run, replicas too, in order of side and layer."""
        root = self._path("dictionaries")
        folders = sorted(path.name for path in root.iterdir() if (path / "cfg.json").is_file())
        found = (_id_of_folder(name) for name in folders)
        return sorted((one for one in found if self._is_asked_for(one)), key=_side_then_layer)

    def _is_asked_for(self, one: DictionaryId) -> bool:
        """Whether the study still has this dictionary: a folder may be left from an earlier version of it."""
        cfg = self.study["dictionaries"]
        if one.trained_on == UNTRAINED and not self.study["models"].get("random_weights"):
            return False
        if one.is_imported:
            theirs = [
                (given["side"], given["layer"], f"{IMPORTED}{given['name']}") for given in cfg.get("imported", ())
            ]
            return (one.trained_on, one.layer, one.kind) in theirs
        bare = one.kind in cfg.get("baselines", ()) and one.trained_on in ("base", "delta")
        return (
            one.layer in self.study["extract"]["layers"]
            and (one.seed or 0) <= cfg["seeds"]
            and (one.fold is None or one.fold < cfg["folds"])
            and (bare or (one.kind or "topk") in cfg.get("kinds", ["topk"]))
            and (one.kind == "crosscoder" or one.trained_on.split(":")[0] in (*cfg.get("sides", _SIDES), UNTRAINED))
        )

    def dictionary(self, dictionary: DictionaryId | str) -> Dictionary:
        from antar.dictionaries import load_dictionary  # torch: only where a dictionary is wanted

        return load_dictionary(self._path(f"dictionaries/{_as_id(dictionary).folder}"))

    def metrics(self, dictionary: DictionaryId | str) -> dict[str, Any]:
        return self._json(f"dictionaries/{_as_id(dictionary).folder}/metrics.json")

    def origin(self, dictionary: DictionaryId | str) -> Origin | None:
        """What its source says of an imported dictionary; None for one of the study's own."""
        one = _as_id(dictionary)
        return origin_of(self.metrics(one).get("imported") or {}) if one.is_imported else None

    def latent_scaling(self, dictionary: DictionaryId | str) -> pl.DataFrame:
        """How much of each latent of a crosscoder is in base and in chat: one row a latent."""
        return self._parquet(f"dictionaries/{_as_id(dictionary).folder}/latent_scaling.parquet")

    def history(self, dictionary: DictionaryId | str) -> pl.DataFrame:
        """The training curve: one row for each check."""
        return self._parquet(f"dictionaries/{_as_id(dictionary).folder}/history.parquet")

    def activations(self, side: str, layer: int) -> np.ndarray:
        """float32 `[n_texts, d_model]` at a site; delta sides are subtracted on reading, and `joint` has base's
        columns before chat's."""
        from antar.models.read import read_site  # transformers: only where activations are wanted

        site = Site(side, layer)
        for stored in site.stored:
            self._path(f"activations/{Site(stored, layer).folder}")
        return read_site(self.folder, site)

    def tokens(self, side: str, layer: int) -> TokenSite:
        """The rows of the texts' tokens at a site, where `extract.pooling` was `none`: to be iterated, as
        `for texts, rows in run.tokens("delta", 6)` with rows float32 `[tokens, d_model]` and the text of each; or
        read block by block. `activations` has the mean of each text's."""
        from antar.models.token_rows import TokenSite

        site = Site(side, layer)
        for stored in site.stored:
            self._path(f"activations/{Site(stored, layer).folder}")
        return TokenSite(self.folder, site)

    def codes(self, dictionary: DictionaryId | str, side: str) -> SparseCodes:
        """The sparse codes of every text at `side` under a dictionary."""
        from antar.features.codes import read_codes  # torch: only where codes are wanted

        dictionary = _as_id(dictionary)
        self._path(f"codes/{codes_folder(dictionary, side)}")
        return read_codes(self.folder, dictionary, side, self.metrics(dictionary)["n_latents"])

    def manifest(self, folder: str) -> Manifest | None:
        """The manifest of an artifact's folder, e.g. `corpus`; None when there is none."""
        return read_manifest(self.folder / folder / "manifest.json")

    def layers_of(self, side: str) -> list[int]:
        """The layers at which the run holds the activations that `side` needs."""
        root = self.folder / "activations"
        stored = Site(side, 0).stored
        found = [
            {int(path.name.rsplit(".layer", 1)[1]) for path in root.glob(f"{part.replace(':', '-')}.layer[0-9]*")
             if shard_paths(path)}
            for part in stored
        ]  # fmt: skip
        return sorted(set.intersection(*found))

    def _path(self, name: str) -> Path:
        path = self.folder / name
        if not path.exists():
            if name in LEFT_OUT and (self.folder / SHARE_NAME).is_file():
                raise UserError(
                    f"{path}: not here, since the push of this run left texts and examples out; pull one that was "
                    "pushed with --with-texts, or make the run from its study"
                )
            verb = STAGE_OF.get(name) or STAGE_OF.get(name.split("/", maxsplit=1)[0], "run")
            raise UserError(f"{path}: not made yet; `antar {verb} STUDY` makes it")
        return path

    def _parquet(self, name: str) -> pl.DataFrame:
        path = self._path(name)
        try:
            return pl.read_parquet(path)
        except pl.exceptions.PolarsError as error:
            raise UserError(
                f"{path}: expected a whole table, found {_one_line(error)}; run the study again"
            ) from error

    def _json(self, name: str) -> Any:
        path = self._path(name)
        try:
            return json.loads(path.read_bytes())
        except ValueError as error:
            raise UserError(f"{path}: expected JSON, found {_one_line(error)}; run the study again") from error


def load_run(path: Path | str) -> Run:
    """Open the run folder at `path`. Nothing but its existence is checked; tables are read when asked for."""
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(f"{folder}: expected a run folder, found nothing; `antar run STUDY` makes one")
    if not (folder / "study.yaml").is_file():
        raise UserError(f"{folder}: expected a run folder, found no study.yaml in it; `antar run STUDY` makes one")
    return Run(folder)


def _as_id(dictionary: DictionaryId | str) -> DictionaryId:
    return DictionaryId.parse(dictionary) if isinstance(dictionary, str) else dictionary


def _id_of_folder(name: str) -> DictionaryId:
    # Folder names hold a hyphen where a side holds a colon; no side has a hyphen of its own.
    return DictionaryId.parse(name.replace("-", ":", 1))


_SIDES = ("base", "chat", "joint", "delta")


def _side_then_layer(dictionary: DictionaryId) -> tuple[Any, ...]:
    side = dictionary.trained_on
    rank = _SIDES.index(side) if side in _SIDES else len(_SIDES)
    return (rank, side, dictionary.layer, dictionary.kind or "", dictionary.seed or -1, dictionary.fold or -1)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
