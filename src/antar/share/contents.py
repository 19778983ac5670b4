"""What goes into a parcel of a run, of a dictionary, and of the tables as a dataset.

Texts are other people's: they, and the table of examples that points into them, go along only when asked for. Labels,
verdicts and the reasons that a language model gave for them do go: they are the labeller's words, which may quote.
What is large and can be made again (models, activations, codes), the people's answers and the report stay.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from antar.core.errors import UserError
from antar.core.sites import DictionaryId
from antar.run import LEFT_OUT, Run
from antar.share.cleaning import is_path
from antar.share.labelled import contrasts_of, features_of
from antar.share.parcel import KINDS, Parcel
from antar.stages.export import finished_dictionaries, write_as_saelens

DICTIONARY_FILES = ("cfg.json", "sae_weights.safetensors", "metrics.json", "history.parquet",
                    "latent_scaling.parquet", "manifest.json")  # fmt: skip
TOP_FILES = ("study.yaml", "study.lock.json", "criteria.json", "criteria.manifest.json", "truth_report.json")
RECORDS = ("labels", "verdicts", "predictions", "keywords", "controls", "saebench")
TEXTS, EXAMPLES = LEFT_OUT


@dataclass(frozen=True)
class Ask:
    """texts: the corpus and the examples too; activations: they and the codes too"""

    texts: bool = False
    activations: bool = False


def run_parcel(run: Run, ask: Ask) -> Parcel:
    """The run as a folder that `antar.load_run` opens."""
    facts = {"study": run.study["study"], "texts": ask.texts, "activations": ask.activations}
    parcel = Parcel("run", str(run.study["study"]), facts)
    parcel.add_all(run.folder, "", TOP_FILES)
    for one in finished_dictionaries(run):
        parcel.add_all(run.folder / "dictionaries" / one.folder, f"dictionaries/{one.folder}", DICTIONARY_FILES)
    parcel.add_all(run.folder / "interpret", "interpret", [f"{name}.jsonl" for name in RECORDS] + ["manifest.json"])
    _add_folder(parcel, run.folder, "features")
    _add_folder(parcel, run.folder, "corpus")
    if not ask.texts:
        parcel.files = {name: source for name, source in parcel.files.items() if name not in (TEXTS, EXAMPLES)}
    elif run.has(TEXTS):
        refuse_paths_in(run.texts, run.folder / TEXTS)
    if ask.activations:
        for name in ("activations", "codes"):
            for folder in sorted((run.folder / name).glob("*")):
                _add_folder(parcel, run.folder, f"{name}/{folder.name}")
    return parcel


def _add_folder(parcel: Parcel, root: Path, under: str) -> None:
    names = [path.name for path in sorted((root / under).glob("*")) if path.suffix in KINDS and path.name[0] != "."]
    parcel.add_all(root / under, under, names)


def refuse_paths_in(texts: pl.DataFrame, path: Path) -> None:
    for column in ("source", "document"):
        found = next((value for value in texts[column].unique() if is_path(value)), None)
        if found:
            raise UserError(
                f"{path}: expected no path of this machine in {column}, found one; name the source in the study and "
                "run `antar corpus STUDY` again"
            )


def dictionary_parcel(run: Run, one: DictionaryId, ask: Ask) -> Parcel:
    """A dictionary as a folder that antar opens, with its features, and `saelens/`, which SAELens opens."""
    finished_dictionaries(run, [one])
    facts = {"study": run.study["study"], "dictionary": str(one), "texts": ask.texts, "activations": False}
    parcel = Parcel("dictionary", str(one), facts)
    parcel.add_all(run.folder / "dictionaries" / one.folder, "", DICTIONARY_FILES)
    if run.has("features/features.parquet") and str(one) in set(run.features["dictionary"]):
        parcel.add("features.parquet", _parquet(features_of(run, one)))
    if run.has("features/contrasts.parquet") and str(one) in set(run.contrasts["dictionary"]):
        parcel.add("contrasts.parquet", _parquet(contrasts_of(run, dictionary=one)))
    if run.has("criteria.json"):
        parcel.add("criteria.json", run.folder / "criteria.json")
    if ask.texts:
        refuse_paths_in(run.texts, run.folder / TEXTS)
        parcel.add("examples.parquet", _parquet(examples_with_texts(run, one)))
    _add_saelens(parcel, run, one)
    return parcel


def _add_saelens(parcel: Parcel, run: Run, one: DictionaryId) -> None:
    with TemporaryDirectory() as temporary:
        for path in write_as_saelens(run, one, Path(temporary)):
            parcel.add(f"saelens/{path.name}", path.read_bytes())


def examples_with_texts(run: Run, one: DictionaryId | None = None) -> pl.DataFrame:
    """`run.examples`, each with its text, group, language and source."""
    examples = run.examples if one is None else run.examples.filter(pl.col("dictionary") == str(one))
    about = run.texts.select("text_id", "text", "group", "language", "source")
    return examples.join(about, on="text_id", how="left", maintain_order="left")


def dataset_parcel(run: Run, ask: Ask) -> Parcel:
    """Tables, a folder of `data/` for each configuration of the dataset."""
    from antar.share.data import dataset_files

    parcel = Parcel("dataset", str(run.study["study"]), {"study": run.study["study"], "texts": ask.texts})
    for name, frame in dataset_files(run, ask.texts).items():
        parcel.add(name, _parquet(frame))
    return parcel


def _parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()
