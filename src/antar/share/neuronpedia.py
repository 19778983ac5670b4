"""`antar export --to neuronpedia`: features, examples and labels for Neuronpedia's importer and for SAEDashboard.

Two layouts of the same content, a pair for each dictionary:

    exports/<model>/<source>/{release,model,sourceset,source}.jsonl
                             {features,activations,explanations}/batch-N.jsonl.gz     Neuronpedia's bulk import
    dashboards/<source>/batch-N.json                                                  SAEDashboard's batches

The columns are those of Neuronpedia's tables (`Neuron`, `Activation`, `Explanation`), which its importer fills from
the keys of a file's first line; the batches are `NeuronpediaDashboardBatch`. What antar does not compute (logits,
correlated neurons) stays empty there, as SAEDashboard leaves what it was not asked for.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from antar.core.errors import UserError
from antar.core.progress import say
from antar.core.sites import DictionaryId
from antar.core.sparse import SparseCodes
from antar.run import Run
from antar.share.checkpoints import Checkpoint, checkpoint_of, hook_of, sides_of, takes
from antar.share.labelled import features_of
from antar.share.shown import Examples, Shown

BATCH = 256
"""Features in a file."""
TOP = 20
BINS = 40
CREATOR_VARIABLE, CREATOR = "DEFAULT_CREATOR_ID", "clkht01d40000jv08hvalcvly"
"""Neuronpedia's rows belong to a user: where its tools look for one, and the user they fall back on."""


@dataclass(frozen=True)
class Source:
    """A dictionary as Neuronpedia knows it. `source` is `<layer>-<set>`."""

    dictionary: DictionaryId
    model: Checkpoint
    set: str
    source: str
    hook: str | None
    creator: str
    n_texts: int
    max_tokens: int
    corpus: str

    @classmethod
    def of(cls, run: Run, one: DictionaryId) -> Source:
        model = checkpoint_of(run, sides_of(one)[0])
        rest = str(one).replace(f".layer{one.layer:02d}", "").replace(":", "-").replace(".", "-")
        name = f"antar-{_slug(run.study['study'])}-{rest}"
        creator = os.environ.get(CREATOR_VARIABLE) or CREATOR
        texts = run.texts
        corpus = ", ".join(texts["source"].unique().sort())
        max_tokens = int(run.study["extract"]["max_tokens"])
        return cls(
            one, model, name, f"{one.layer}-{name}", hook_of(run, one), creator, texts.height, max_tokens, corpus
        )

    @property
    def key(self) -> dict[str, str]:
        return {"modelId": self.model.slug, "layer": self.source}


def write_neuronpedia(run: Run, folder: Path, dictionary: DictionaryId | None = None, top: int | None = None) -> int:
    """Write both layouts into `folder`; returns how many files. Without `dictionary`: every one of the study's own,
    no replica and no null. top: examples of a feature, 20 where nobody says.
    """
    ids = (
        [dictionary] if dictionary else [one for one in run.dictionary_ids if not one.is_replica and not one.is_null]
    )
    if not ids:
        raise UserError(f"{run.folder}: expected dictionaries, found none made yet; `antar train STUDY` makes them")
    examples = Examples(run)
    written = 0
    for one in ids:
        source = Source.of(run, one)
        place = folder / "exports" / source.model.slug / source.source
        written += _write_about(run, source, place)
        features = _features(run, source, examples.of(one, top or TOP))
        for number, batch in enumerate(features):
            written += _write_batch(folder, place, source, number, batch)
    if not _has_tokens(run):
        say("  activations are one vector a text: an example is the whole text as one token, with the text's code")
    return written


def _has_tokens(run: Run) -> bool:
    return run.study["extract"]["pooling"] == "none"


@dataclass(frozen=True)
class Feature:
    """row: of `features_of`; firings: the code of every text that fires it; vector: its decoder row, where the
    dictionary belongs to one model"""

    row: Mapping[str, Any]
    shown: Sequence[Shown]
    firings: np.ndarray
    vector: list[float]


def _features(run: Run, source: Source, examples: Mapping[int, Sequence[Shown]]) -> Iterator[list[Feature]]:
    """The features of a dictionary, all of its latents, a batch at a time."""
    one = source.dictionary
    frame = features_of(run, one).sort("latent")
    codes = own_codes(run, one).csc()
    decoder_nd = _decoder(run, one) if source.hook else None
    rows = list(frame.iter_rows(named=True))
    for start in range(0, len(rows), BATCH):
        yield [
            Feature(
                row,
                examples.get(row["latent"], []),
                np.asarray(codes.data[codes.indptr[row["latent"]] : codes.indptr[row["latent"] + 1]], np.float64),
                [] if decoder_nd is None else [_short(x) for x in decoder_nd[row["latent"]].tolist()],
            )
            for row in rows[start : start + BATCH]
        ]


def own_codes(run: Run, one: DictionaryId) -> SparseCodes:
    """One code a text: on the side that the dictionary was trained on, or the stronger of base's and chat's."""
    if not one.is_joint_rows:
        return run.codes(one, one.trained_on)
    return run.codes(one, "base").maximum(run.codes(one, "chat"))


def _decoder(run: Run, one: DictionaryId) -> np.ndarray | None:
    from antar.dictionaries import Crosscoder, TopK

    found = run.dictionary(one)
    if isinstance(found, TopK) and not isinstance(found, Crosscoder):
        return found.weights.decoder_nd.numpy()
    return None


# -- Neuronpedia's tables -----------------------------------------------------------------------------------------


def _write_about(run: Run, source: Source, place: Path) -> int:
    study, model, creator = run.study["study"], source.model, source.creator
    what = f"antar, study {study}: dictionary {source.dictionary}, of {takes(source.dictionary)}"
    pooled = "; densities are shares of texts"
    pooled += "" if _has_tokens(run) else "; one activation a text: each example is a whole text as one token"
    lines: dict[str, dict[str, Any]] = {
        "release": {
            "name": f"antar-{_slug(study)}", "description": f"antar: {run.study.get('question') or study}",
            "descriptionShort": f"antar: {study}", "creatorName": "antar", "creatorNameShort": "antar",
            "creatorId": creator, "urls": [], "visibility": "PUBLIC",
        },
        "model": {
            "id": model.slug, "displayName": model.name, "displayNameShort": model.name, "creatorId": creator,
            "instruct": model.side == "chat", "layers": _blocks(run, source.dictionary), "neuronsPerLayer": 0,
            "dimension": run.metrics(source.dictionary)["d_model"], "owner": "", "visibility": "PUBLIC",
        },
        "sourceset": {
            "modelId": model.slug, "name": source.set, "creatorId": creator, "creatorName": "antar",
            "releaseName": f"antar-{_slug(study)}", "description": what + pooled, "urls": [], "type": "",
            "visibility": "PUBLIC", "hasDashboards": True, "allowInferenceSearch": False,
        },
        "source": {
            "id": source.source, "modelId": model.slug, "setName": source.set, "creatorId": creator,
            "hasDashboards": True, "inferenceEnabled": False, "visibility": "PUBLIC", "num_prompts": source.n_texts,
            "num_tokens_in_prompt": source.max_tokens, "dataset": source.corpus, "notes": what + pooled,
        },
    }  # fmt: skip
    place.mkdir(parents=True)
    for name, line in lines.items():
        (place / f"{name}.jsonl").write_bytes(_jsonl([line]))
    return len(lines)


def _blocks(run: Run, one: DictionaryId) -> int:
    """Layers of the model; where the run no longer says, those that are sure to be there."""
    manifest = run.manifest(f"activations/base.layer{one.layer:02d}")
    return int((manifest.facts if manifest else {}).get("blocks") or max(run.study["extract"]["layers"]) + 1)


def _write_batch(folder: Path, place: Path, source: Source, number: int, batch: Sequence[Feature]) -> int:
    tables = {
        "features": [_neuron(source, one) for one in batch],
        "activations": [row for one in batch for row in _activations(source, one)],
        "explanations": [_explanation(source, one) for one in batch if one.row["label"]],
    }
    written = 0
    for name, rows in tables.items():
        if rows:
            (place / name).mkdir(exist_ok=True)
            path = place / name / f"batch-{number}.jsonl.gz"
            path.write_bytes(gzip.compress(_jsonl(rows), compresslevel=5, mtime=0))
            written += 1
    dashboards = folder / "dashboards" / source.source
    dashboards.mkdir(parents=True, exist_ok=True)
    (dashboards / f"batch-{number}.json").write_bytes(_json(_dashboard(source, batch)))
    return written + 1


def _neuron(source: Source, one: Feature) -> dict[str, Any]:
    strongest = max((max(shown.values) for shown in one.shown if shown.values), default=0.0)
    return source.key | {
        "index": str(one.row["latent"]), "sourceSetName": source.set, "creatorId": source.creator,
        "maxActApprox": _short(strongest), "frac_nonzero": _short(one.row["firing_rate"]),
        "hasVector": bool(one.vector), "vector": one.vector, "vectorLabel": None, "hookName": source.hook,
        "vectorDefaultSteerStrength": _short(strongest) if one.vector else 10, **_histogram(one), **_UNMEASURED,
    }  # fmt: skip


def _activations(source: Source, one: Feature) -> Iterator[dict[str, Any]]:
    for rank, shown in enumerate(one.shown):
        values = [_short(value) for value in shown.values]
        if not values:
            continue
        at = int(np.argmax(values))
        yield source.key | {
            "id": _id(source, one.row["latent"], rank), "index": str(one.row["latent"]), "creatorId": source.creator,
            "tokens": [_storable(token) for token in shown.tokens], "values": values, "maxValue": values[at],
            "maxValueTokenIndex": at, "minValue": min(values), **_top_bin(one), "qualifyingTokenIndex": at,
            "dfaValues": [], "dfaMaxValue": None, "dfaTargetIndex": None, "lossValues": [],
        }  # fmt: skip


def _top_bin(one: Feature) -> dict[str, float]:
    """The examples are the strongest ones: SAEDashboard's "top activations", which have no lower end and no share."""
    strongest = max((max(shown.values) for shown in one.shown if shown.values), default=0.0)
    return {"binMin": -1, "binMax": _short(strongest), "binContains": -1}


def _explanation(source: Source, one: Feature) -> dict[str, Any]:
    verdict = f"; verdict: {one.row['verdict']}" if one.row["verdict"] else ""
    return source.key | {
        "id": _id(source, one.row["latent"], "label"), "index": str(one.row["latent"]), "authorId": source.creator,
        "description": _storable(one.row["label"]), "notes": f"labelled by antar{verdict}", "typeName": None,
        "explanationModelName": None,
    }  # fmt: skip


_UNMEASURED: dict[str, list[float]] = {
    name: []
    for name in ("neuron_alignment_indices", "neuron_alignment_values", "neuron_alignment_l1",
                 "correlated_neurons_indices", "correlated_neurons_pearson", "correlated_neurons_l1",
                 "correlated_features_indices", "correlated_features_pearson", "correlated_features_l1",
                 "logits_hist_data_bar_heights", "logits_hist_data_bar_values", "neg_str", "neg_values", "pos_str",
                 "pos_values", "decoder_weights_dist")
}  # fmt: skip


def _histogram(one: Feature) -> dict[str, list[float]]:
    """Of the codes of all texts that fire it: counts and the middles of their bins."""
    heights, edges = np.histogram(one.firings, BINS) if len(one.firings) else (np.empty(0), np.zeros(1))
    middles = (edges[1:] + edges[:-1]) / 2
    return {
        "freq_hist_data_bar_heights": [int(height) for height in heights],
        "freq_hist_data_bar_values": [_short(value) for value in middles.tolist()],
    }


# -- SAEDashboard's batches ---------------------------------------------------------------------------------------


def _dashboard(source: Source, batch: Sequence[Feature]) -> dict[str, Any]:
    return {
        "model_id": source.model.slug, "layer": source.dictionary.layer, "sae_set": source.set,
        "sae_id_suffix": None, "features": [_dashboard_feature(source, one) for one in batch],
    }  # fmt: skip


def _dashboard_feature(source: Source, one: Feature) -> dict[str, Any]:
    neuron = _neuron(source, one)
    kept = (*_UNMEASURED, "freq_hist_data_bar_heights", "freq_hist_data_bar_values", "frac_nonzero", "vector")
    lines = list(_activations(source, one))
    return {name: neuron[name] for name in kept} | {
        "feature_index": one.row["latent"],
        "n_prompts_total": source.n_texts, "n_tokens_in_prompt": source.max_tokens, "dataset": source.corpus,
        "activations": [
            {"bin_min": line["binMin"], "bin_max": line["binMax"], "bin_contains": line["binContains"],
             "tokens": line["tokens"], "values": line["values"],
             "qualifying_token_index": line["qualifyingTokenIndex"]}
            for line in lines
        ],
    }  # fmt: skip


# -- bytes --------------------------------------------------------------------------------------------------------


def _short(value: float | None) -> float:
    """Six significant digits: what float32 carries, in half the bytes. Nothing to say is 0, as in the tables."""
    return 0.0 if value is None or not np.isfinite(value) else float(f"{value:.6g}")


def _id(source: Source, latent: int, what: int | str) -> str:
    """A row's id in the shape of Neuronpedia's: the same each time, so that a second import adds nothing."""
    name = f"{source.model.slug}/{source.source}/{latent}/{what}"
    return "c" + hashlib.sha256(name.encode()).hexdigest()[:24]


def _storable(text: str) -> str:
    """Postgres takes no NUL."""
    return text.replace("\0", "\u2400")


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")


def _jsonl(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return b"".join(_json(row) + b"\n" for row in rows)


def _slug(name: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in name.lower()).strip("-") or "run"
