"""Stage 6: contrasts, energies, coherence, stability; the seven criteria; and, on an organism, the planted truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl

from antar.core.atomic import write_json, write_parquet
from antar.core.hashing import code_version, sha256_file
from antar.core.manifest import Fingerprint
from antar.core.progress import progress, say
from antar.core.seeds import derive_seed
from antar.core.sites import UNTRAINED, DictionaryId, Site, codes_folder
from antar.corpora.schema import READING, READING_OF
from antar.criteria import Agreement, Findings, judge
from antar.dictionaries import load_dictionary
from antar.features.coherence import Space, coherence_null, measure_coherence
from antar.features.contrasts import measure_contrasts
from antar.features.counterparts import Share, as_records
from antar.features.energy import shift_energy, with_energy
from antar.features.examples import contrast_rows, crosscheck_rows
from antar.features.magnitude import Magnitude, shift_magnitudes
from antar.features.readings import first_readings
from antar.features.stability import measure_stability
from antar.models import read_site
from antar.people.findings import digest, findings_of
from antar.people.schema import SHEET
from antar.run import load_run
from antar.stages.artifact import Artifact, ensure_files
from antar.stages.beyond import baselines_table
from antar.stages.context import Context, config_slice
from antar.stages.counterparts import measure_counterparts
from antar.stages.crosscheck import write_crosscheck
from antar.stages.interpret import labelled_dictionaries
from antar.stages.people import criterion_agreement, sheet_is_of
from antar.stages.saebench_results import FOLDER as SAEBENCH
from antar.stages.saebench_results import RESULTS, current_benchmarks
from antar.stages.text_space import text_space_inputs, text_space_name, text_vectors
from antar.stages.train import fires_in_training, rows_in_training, training_rows
from antar.stages.truth import has_truth, truth_report

MANIFEST = "criteria.manifest.json"
_COHERENCE = {"feature": pl.String, "coherence": pl.Float64, "coherence_by_texts": pl.Float64}
_OTHER_CODE = (
    *("organisms/truth.py", "stages/measure.py", "stages/truth.py", "stages/train.py", "core/seeds.py"),
    *(
        "stages/crosscheck.py",
        "corpora/match.py",
        "stages/counterparts.py",
        "stages/beyond.py",
        "stages/text_space.py",
        "interpret/words.py",
    ),
)


def artifacts(context: Context) -> list[Artifact]:
    study = context.study
    inputs = {name: context.manifest(name).content for name in ("corpus", "features", "interpret")}
    inputs["tables"] = context.manifest("features").fingerprint.sha256
    # The tables know of each dictionary's own side only; contrasts read its codes on every side, and energies,
    # magnitudes and baselines the activations themselves.
    codes = [f"codes/{codes_folder(*one)}" for one in context.code_sets()]
    stored = [f"activations/{site.folder}" for site in context.sites()]
    inputs |= {name: context.manifest(name).content for name in (*codes, *stored)}
    for one in context.dictionary_ids():
        if one.is_replica:
            inputs[f"dictionaries/{one}"] = context.manifest(f"dictionaries/{one.folder}").content
    inputs |= text_space_inputs(context)
    if study.truth is not None and has_truth(context):
        inputs["organism"] = context.manifest("organism").content
    sheet = context.folder / "people" / SHEET
    if sheet.is_file():
        inputs["people"] = digest(sheet)
    benchmarks = context.folder / SAEBENCH / RESULTS
    if benchmarks.is_file():
        inputs["saebench"] = sha256_file(benchmarks)
    return [
        Artifact(
            "measure",
            context.folder,
            Fingerprint(
                inputs=inputs,
                config={
                    "contrasts": config_slice(study.contrasts),
                    "crosscheck": config_slice(study.crosscheck),
                    "criteria": config_slice(study.criteria),
                    "truth": config_slice(study.truth) if study.truth else {},
                    "names": study.names,
                    "sham_is": study.models.sham_is,
                    "seed": study.seed,
                },
                code=code_version("features", "criteria", "people", "dictionaries", *_OTHER_CODE),
            ),
            manifest_name=MANIFEST,
        )
    ]


def make(context: Context) -> None:
    (artifact,) = artifacts(context)
    ensure_files(artifact, lambda: _measure(context))


_Codes = TypeVar("_Codes")


class _CodeSets(Mapping[tuple[DictionaryId, str], _Codes]):
    """The run's codes, looked for when they are asked for by `read(dictionary, side)`."""

    def __init__(self, context: Context, read: Callable[[DictionaryId, str], _Codes]) -> None:
        self._read, self._sets = read, context.code_sets()

    def __getitem__(self, key: tuple[DictionaryId, str]) -> _Codes:
        return self._read(*key)

    def __iter__(self) -> Iterator[tuple[DictionaryId, str]]:
        return iter(self._sets)

    def __len__(self) -> int:
        return len(self._sets)


def _counterparts(
    context: Context, texts: pl.DataFrame, live: Mapping[DictionaryId, np.ndarray]
) -> tuple[Sequence[Share], list[Path]]:
    matches, shares = measure_counterparts(context, texts, live)
    files = [context.folder / "features" / name for name in ("matches.parquet", "matches.json")]
    write_parquet(files[0], matches)
    write_json(files[1], as_records(shares))
    return shares, files


_TABLES = ("contrasts.parquet", "energy.parquet", "magnitudes.json", "baselines.parquet")


def _measure(context: Context) -> tuple[Sequence[Path], Mapping[str, Any]]:
    study, folder, texts = context.study, context.folder, context.texts()
    features = pl.read_parquet(folder / "features" / "features.parquet")
    live = {
        one: features.filter(pl.col("dictionary") == str(one)).sort("latent")["live"].to_numpy()
        for one in context.dictionary_ids()
        if not one.is_replica
    }
    say("  contrasts")
    contrasts = measure_contrasts(texts, _CodeSets(context, context.stored_codes), study.contrasts, study.seed, live)
    files = [folder / "features" / name for name in _TABLES]
    energy = energies(context, texts)
    contrasts = with_energy(contrasts, energy)
    for name in ("criteria.json", "truth_report.json"):  # never old verdicts beside new contrasts
        (folder / name).unlink(missing_ok=True)
    write_parquet(files[0], contrasts)
    files += write_crosscheck(context, texts, _CodeSets(context, context.codes), contrasts, live)
    write_parquet(files[1], energy)
    shifts = magnitudes(context, texts)
    write_json(files[2], [asdict(one) for one in shifts])
    write_parquet(files[3], baselines_table(context, texts, contrasts))
    shares, matched = _counterparts(context, texts, live)
    files += matched
    shape = _Shapes.measure(context, texts, live)
    files.append(folder / "features" / "coherence.parquet")
    write_parquet(files[-1], shape.coherence_table())
    run = load_run(folder)
    report = judge(
        Findings(
            study=study.study,
            metrics={str(one): run.metrics(one) for one in live},
            features=features,
            contrasts=contrasts,
            labels=run.labels,
            predictions=run.predictions,
            label_facts=context.manifest("interpret").facts,
            coherence=shape.coherence,
            coherence_null=shape.coherence_null,
            text_coherence=shape.text_coherence,
            text_coherence_null=shape.text_coherence_null,
            text_space=text_space_name(context),
            stability=shape.stability,
            stability_null=shape.stability_null,
            agreement=_agreement(context),
            geometry=run.geometry,
            energy=energy,
            names=study.names,
            shams=study.sham_names,
            magnitudes=shifts,
            counterparts=shares,
            sham_is=study.models.sham_is,
        ),
        study.criteria,
    )
    files.append(folder / "criteria.json")
    write_json(files[-1], report.beside(current_benchmarks(run)).model_dump(mode="json"))
    if study.truth is not None and has_truth(context):
        files.append(folder / "truth_report.json")
        write_json(files[-1], truth_report(context, texts, contrasts, study.truth))
    return files, {"contrasts": contrasts.height}


def energies(context: Context, texts: pl.DataFrame) -> pl.DataFrame:
    """Energy of the shift at each layer, of the chat side and of each sham, on the texts that contrasts use."""
    rows = np.flatnonzero(contrast_rows(texts))
    frames: list[pl.DataFrame] = []
    for layer in context.layers():
        norms = np.linalg.norm(read_site(context.folder, Site("base", layer)), axis=1)
        for side in ("delta", *(f"delta:{name}" for name in context.study.sham_names)):
            site = Site(side, layer)
            delta_nd = read_site(context.folder, site)
            facets = context.study.contrasts.facets
            frames.append(shift_energy(delta_nd, norms, texts, str(site), side, facets, rows))
    return pl.concat(frames)


def magnitudes(context: Context, texts: pl.DataFrame) -> list[Magnitude]:
    """The shift in activation units with intervals, of the chat side first, then of each sham."""
    found: list[Magnitude] = []
    for side in ("delta", *(f"delta:{name}" for name in context.study.sham_names)):
        for layer in context.layers():
            base_nd, delta_nd = (read_site(context.folder, Site(one, layer)) for one in ("base", side))
            found += shift_magnitudes(side, layer, texts, base_nd, delta_nd, context.study.seed)
    return found


@dataclass(frozen=True)
class _Shapes:
    """Coherence: dictionary → one number a live feature. Stability: replica → the cosine of each latent of its
    dictionary with its match. And their nulls."""

    coherence: dict[str, np.ndarray]
    coherence_null: dict[str, np.ndarray]
    text_coherence: dict[str, np.ndarray]
    text_coherence_null: dict[str, np.ndarray]
    stability: dict[str, np.ndarray]
    stability_null: dict[str, np.ndarray]
    by_feature: list[pl.DataFrame]

    def coherence_table(self) -> pl.DataFrame:
        """`feature, coherence, coherence_by_texts`: what criterion 5 is the mean of, a row for each live feature."""
        return pl.concat([pl.DataFrame(schema=_COHERENCE), *self.by_feature])

    @classmethod
    def measure(cls, context: Context, texts: pl.DataFrame, live: Mapping[DictionaryId, np.ndarray]) -> _Shapes:
        found = cls({}, {}, {}, {}, {}, {}, [])
        examples = pl.read_parquet(context.folder / "features" / "examples.parquet").filter(
            pl.col("pool") == "estimate"
        )
        language, document, text = _languages(texts), texts["document"].to_numpy(), first_readings(texts)
        train_rows, _ = training_rows(texts, context.study.dictionaries, None, context.study.seed)
        ids = labelled_dictionaries(context)
        vectors_nd = text_vectors(context, texts)
        by_text = None if vectors_nd is None else Space(vectors_nd, language, document, text)
        ids += [one for one in live if one.trained_on == UNTRAINED]
        with progress("coherence and stability", len(ids), "dictionaries") as bar:
            for one in ids:
                acts_nd = read_site(context.folder, one.site)
                space = Space(acts_nd, language, document, text)
                found._add_coherence(context, one, space, by_text, examples, live[one])
                found._add_stability(context, one, train_rows, live[one])
                bar.advance()
        return found

    def _add_coherence(
        self,
        context: Context,
        one: DictionaryId,
        space: Space,
        by_text: Space | None,
        examples: pl.DataFrame,
        live: np.ndarray,
    ) -> None:
        its = examples.filter(pl.col("dictionary") == str(one)).sort("latent", "rank")
        its = its.filter(pl.Series(live[its["latent"].to_numpy()]))
        latents, rows = its["latent"].to_numpy(), its["row"].to_numpy()
        seed = derive_seed(context.study.seed, "coherence", str(one))
        measured = measure_coherence(space, latents, rows, seed=seed)
        self.coherence[str(one)] = _numbers(measured)
        self.coherence_null[str(one)] = _numbers(coherence_null(space, latents, rows, seed=seed))
        if by_text is not None:
            self.text_coherence[str(one)] = _numbers(measure_coherence(by_text, latents, rows, seed=seed))
            self.text_coherence_null[str(one)] = _numbers(coherence_null(by_text, latents, rows, seed=seed))
        by_texts = self.text_coherence.get(str(one))
        self.by_feature.append(
            measured.select(
                pl.format("{}/{}", pl.lit(str(one)), "latent").alias("feature"),
                pl.col("coherence").cast(pl.Float64),
                pl.Series("coherence_by_texts", by_texts, dtype=pl.Float64, nan_to_null=True)
                if by_texts is not None
                else pl.lit(None, pl.Float64).alias("coherence_by_texts"),
            )
        )

    def _add_stability(self, context: Context, one: DictionaryId, train_rows: np.ndarray, live: np.ndarray) -> None:
        replicas_of = [other for other in context.dictionary_ids() if other.is_replica and other.of == one.of]
        if not replicas_of:
            return
        rows = rows_in_training(context, one, train_rows)
        decoder_nd = load_dictionary(context.folder / "dictionaries" / one.folder).decoder_nd
        for other in replicas_of:  # one at a time: five folds and three seeds need not fit in memory together
            replica = load_dictionary(context.folder / "dictionaries" / other.folder)
            fires = fires_in_training(replica, rows)
            seed = derive_seed(context.study.seed, "stability", str(other))
            measured = measure_stability(decoder_nd, [replica.decoder_nd], live, [fires], seed=seed)
            self.stability[str(other)], self.stability_null[str(other)] = measured.by_latent, measured.null


def _languages(texts: pl.DataFrame) -> np.ndarray:
    """What each text is compared with in coherence: texts of its language, in its own reading. No example is a
    cross-check text, and none is drawn as a random text of a language either."""
    read_as = texts["language"] + (", " + texts[READING] if READING_OF in texts.columns else "")
    return np.where(crosscheck_rows(texts), "cross-check", read_as.to_numpy())


def _numbers(scores: pl.DataFrame) -> np.ndarray:
    return scores["coherence"].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _agreement(context: Context) -> Agreement | None:
    """Whether people agree on KEEP, REVISE and INVALIDATE; None until two have judged some label."""
    sheet = context.folder / "people" / SHEET
    if not sheet.is_file():
        return None
    if not sheet_is_of(load_run(context.folder), sheet):
        say(f"  people/{SHEET} is about other labels than this run's: agreement is not measured")
        return None
    return criterion_agreement(findings_of(sheet, seed=context.study.seed))
