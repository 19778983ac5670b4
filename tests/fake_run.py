"""A whole run folder in a second, with made-up numbers: for tests of what only reads runs.

Its texts are Hindi and English, and some of them are hostile: they try to close tags, to load things, to give
orders and to turn the line around. Nothing in it was measured.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from antar.core.atomic import write_json, write_parquet, write_text
from antar.core.manifest import Fingerprint, write_manifest
from antar.core.shards import write_shard
from antar.core.sites import DictionaryId, Site, codes_folder
from antar.features.beyond import SCHEMA as BEYOND_SCHEMA
from antar.features.magnitude import shift_magnitudes
from antar.models.read import read_site

sys.path.insert(0, str(Path(__file__).parent))
from fake_labels import JUDGE, LABELLER, write_labels

LAYERS = (1, 2)
D_MODEL, N_LATENTS, K = 16, 24, 4
LANGUAGES = ("en", "hi")
HINDI = "दीवाली पर माँ ने घर के आँगन में दीये जलाए और क्षेत्र के बच्चों को मिठाई बाँटी।"
HOSTILE = (
    "<script>alert('owned')</script> and <img src=x onerror=alert(1)>",
    "</style><link rel=stylesheet href=https://evil.example/x.css>",
    "\"'><svg onload=alert(2)> {{ 7*7 }} {% raw %} &amp; ]]>",
    "left to right \u202eand back again\u202c with an isolate \u2066here\u2069",
)
LONG_HINDI = " ".join([HINDI] * 12)
CONCEPTS = ("diwali", "pongal", "rangoli")


def write_fake_run(
    folder: Path, *, truth: bool = True, sham: bool = True, labels: bool = True, contrasts: bool = True,
    llm: bool = False,
) -> Path:  # fmt: skip
    """Write a run folder. Without `truth`, `sham`, `labels` or `contrasts` it is that of a study that has none; with
    `llm` language models labelled, validated and predicted."""
    rng = np.random.default_rng(5)
    shams = ["a"] if sham else []
    texts = _texts()
    _write_study(folder, texts, shams, llm)
    _write_activations(folder, texts, shams, rng)
    ids = _dictionaries(shams)
    for one in [*ids, DictionaryId("delta", LAYERS[0], seed=1)]:
        _write_dictionary(folder, one, rng)
        _write_codes(folder, one, texts, rng)
    features = pl.concat([_features(one, rng) for one in ids])
    write_parquet(folder / "features/features.parquet", features)
    write_parquet(folder / "features/examples.parquet", _examples(features, texts, rng))
    write_json(folder / "features/geometry.json", _geometry(shams))
    if contrasts:
        write_parquet(folder / "features/contrasts.parquet", _contrasts(ids, bool(shams), rng))
        write_json(folder / "features/magnitudes.json", _magnitudes(folder, texts, shams))
        write_parquet(folder / "features/baselines.parquet", fake_baselines(shams))
    if labels:
        write_labels(folder, features, texts, llm)
    write_json(folder / "criteria.json", fake_criteria(bool(shams)))
    if truth:
        write_json(folder / "truth_report.json", fake_truth())
    return folder


def _magnitudes(folder: Path, texts: pl.DataFrame, shams: list[str]) -> list[dict[str, Any]]:
    found = [
        shift_magnitudes(
            side, layer, texts, read_site(folder, Site("base", layer)), read_site(folder, Site(side, layer)), 5
        )
        for side in ["delta", *(f"delta:{name}" for name in shams)]
        for layer in LAYERS
    ]
    return [asdict(one) for part in found for one in part]


def fake_baselines(shams: list[str]) -> pl.DataFrame:
    """At layer 1 the best feature is above the baselines, at layer 2 below; on shams, not apart."""
    lens = {"method": "mean_difference", "norm": 0.4, "cosine": 0.6, "share": 0.36}
    feature = {"candidates": 20, "best_baseline": "mean_difference"}
    rows: list[dict[str, Any]] = []
    for null, side in [("", "delta"), ("shuffled", "delta"), *((f"sham:{name}", f"delta:{name}") for name in shams)]:
        for layer in LAYERS:
            for language in (*LANGUAGES, "pooled"):
                place = {"side": side, "layer": layer, "language": language, "null": null, "n_a": 20, "n_b": 20}
                d, stands = {("", 1): (1.9, "above"), ("", 2): (0.3, "below")}.get((null, layer), (1.1, "not apart"))
                rows.append(place | lens | _effect(1.0))
                one = f"{side}.layer{layer:02d}"
                rows.append(
                    place
                    | feature
                    | _effect(d)
                    | {
                        "method": "topk",
                        "dictionary": one,
                        "feature": f"{one}/3",
                        "d_av_select": d,
                        "beyond": d - 1.0,
                        "stands": stands,
                    }
                )
                if not null:
                    rows.append(
                        place
                        | _effect(0.7)
                        | {"method": "pca", "dictionary": f"{one}.pca", "feature": f"{one}.pca/1", "candidates": 8}
                    )
    return pl.DataFrame(rows, schema=BEYOND_SCHEMA)


def _effect(d: float) -> dict[str, float]:
    return {"d_av": d, "d_lo": d - 0.2, "d_hi": d + 0.2, "auroc": 0.5 + d / 6}


def _texts() -> pl.DataFrame:
    rows: list[dict[str, Any]] = []
    for i in range(160):
        language, group = LANGUAGES[i % 2], ("cultural", "control")[(i // 2) % 2]
        document = f"doc{i // 4:03d}"
        body = f"The potter of village {i} shapes a lamp." if language == "en" else f"{HINDI} ({i})"
        if i < 2 * len(HOSTILE) and language == "en":
            body = HOSTILE[i // 2]
        if i == 1:
            body = LONG_HINDI
        rows.append({
            "text_id": f"t{i:04d}", "text": body, "group": group, "language": language,
            "source": "made <up>" if group == "cultural" else "plain", "document": document,
            "split": ("train", "heldout", "heldout", "val")[(i // 4) % 4],
            "half": ("select", "estimate")[(i // 4) % 2],
            "concept": CONCEPTS[i % 3] if group == "cultural" else None,
        })  # fmt: skip
    return pl.DataFrame(rows, schema_overrides={"concept": pl.String})


def _write_study(folder: Path, texts: pl.DataFrame, shams: list[str], llm: bool) -> None:
    keywords, served = {"kind": "keywords"}, {"kind": "llm", "base_url": "http://127.0.0.1:9/v1"}
    study = {
        "study": "fake",
        "question": "Does <b>nothing</b> differ between दो models?",
        "seed": 5,
        "models": {"base": None, "chat": None, "shams": {}, "organism": {"kind": "tiny", "shams": shams, "seed": 5},
                   "names": {"base": "Fake-Base", "chat": "Fake & Chat"}},
        "corpus": {"sources": [{"source": "organism", "unit": "response"}], "match": None,
                   "split": {"train": 0.25, "val": 0.25, "heldout": 0.5, "controls": "same"}},
        "extract": {"layers": list(LAYERS), "max_tokens": 64, "dtype": "float32", "pooling": "mean",
                    "outliers": False},
        "dictionaries": {"preset": "published", "n_latents": N_LATENTS, "k": K, "auxk_coefficient": 0.03, "k_aux": 8,
                         "lr": 0.001, "weight_decay": 0.01, "batch": 256, "max_epochs": 20, "seeds": 1, "folds": 0,
                         "train_on": "all", "validate_on": "val"},
        "features": {"top_examples": 20},
        "contrasts": {"facets": ["concept"], "permutations": 200, "facet_permutations": 50, "warn_under": 30},
        "interpret": {"labeller": served | {"model": LABELLER} if llm else keywords,
                      "validator": served | {"model": JUDGE} if llm else keywords,
                      "predictor": served | {"model": JUDGE} if llm else keywords},
        "criteria": {"d": 0.8, "q": 0.05},
        "truth": {"energy_ratio": 1.25},
    }  # fmt: skip
    write_text(folder / "study.yaml", yaml.safe_dump(study, allow_unicode=True, sort_keys=False))
    write_json(folder / "study.lock.json", {"seed": 5, "versions": {"antar": "0.1.0", "torch": "2.13.0"},
                                            "machine": {"cpu": "a made-up CPU", "cores": 2, "gpus": []}})  # fmt: skip
    write_parquet(folder / "corpus/texts.parquet", texts)
    counts = texts.group_by("group", "language", "source", "split").agg(
        pl.len().alias("texts"), pl.col("document").n_unique().alias("documents")
    )
    facts = {
        "n_texts": texts.height,
        "counts": counts.sort("group", "language", "source", "split").to_dicts(),
        "dropped": [{"source": "made <up>", "reason": "exact duplicate", "texts": 7, "examples": ["x1", "x2"]}],
        "words": [{"group": g, "language": lang, "words": {"0": 4, "0.25": 6, "0.5": 8, "0.75": 9, "1": 200}}
                  for g in ("control", "cultural") for lang in LANGUAGES],
        "sampling": [], "match": [], "sources": {"made <up>": {"kind": "organism", "rows_read": 167}},
        "notes": ["plain: 80 control texts in hi of 90 wanted"],
    }  # fmt: skip
    write_manifest(folder / "corpus/manifest.json", "corpus", Fingerprint(), [folder / "corpus/texts.parquet"], facts)


def _write_activations(folder: Path, texts: pl.DataFrame, shams: list[str], rng: np.random.Generator) -> None:
    n = texts.height
    for layer in LAYERS:
        base = rng.normal(size=(n, D_MODEL)).astype(np.float32)
        sides = {"base": base, "chat": base + 0.3 * rng.normal(size=(n, D_MODEL)).astype(np.float32)}
        for name in shams:
            sides[f"sham:{name}"] = base + 0.2 * rng.normal(size=(n, D_MODEL)).astype(np.float32)
        for side, acts_nd in sides.items():
            write_shard(
                folder / "activations" / Site(side, layer).folder / "00000.safetensors", {"acts": acts_nd}, "f"
            )


def _dictionaries(shams: list[str]) -> list[DictionaryId]:
    sides = ["base", "chat", "delta", *(f"delta:{name}" for name in shams)]
    return [DictionaryId(side, layer) for side in sides for layer in LAYERS]


def _write_dictionary(folder: Path, one: DictionaryId, rng: np.random.Generator) -> None:
    import torch

    from antar.dictionaries import TopK
    from antar.dictionaries.weights import Weights

    generator = torch.Generator().manual_seed(int(rng.integers(1 << 30)))
    rows_nd = torch.randn(N_LATENTS, D_MODEL, generator=generator)
    rows_nd /= rows_nd.norm(dim=1, keepdim=True)
    place = folder / "dictionaries" / one.folder
    TopK(Weights(rows_nd.clone(), torch.zeros(N_LATENTS), rows_nd, torch.zeros(D_MODEL)), K).save(place)
    part = {"rows": 40, "mse": 0.01 * (1 + one.layer), "fvu": 0.21, "fvu_pca": 0.34, "fvu_random": 0.83, "l0": 3.9,
            "n_latents_over_l0": 6.2, "live": 20, "live_share": 0.83, "variance": 0.2}  # fmt: skip
    undefined = {"rows": 0, "mse": None, "fvu": None, "fvu_reason": "the part has no texts"}
    write_json(place / "metrics.json", {
        "d_model": D_MODEL, "n_latents": N_LATENTS, "k": K,
        "parts": {"train": part, "heldout": part, "heldout_cultural": part | {"fvu": 0.25},
                  "heldout_control": part | {"mse": 0.02} if one.trained_on != "chat" else undefined},
    })  # fmt: skip
    epochs = np.arange(5, 25, 5)
    history = pl.DataFrame({
        "epoch": epochs, "step": epochs * 10, "train_mse": 0.5 / epochs, "val_mse": 0.6 / epochs,
        "val_fvu": 3.0 / epochs, "live_share": np.linspace(0.5, 0.9, len(epochs)), "dead": [4, 3, 2, 1],
        "resets": [0, 0, 0, 0], "best": [False, False, False, True],
    })  # fmt: skip
    write_parquet(place / "history.parquet", history)


def _write_codes(folder: Path, one: DictionaryId, texts: pl.DataFrame, rng: np.random.Generator) -> None:
    indices = np.array([rng.permutation(N_LATENTS)[:K] for _ in range(texts.height)], dtype=np.int32)
    values = rng.exponential(size=indices.shape).astype(np.float32)
    place = folder / "codes" / codes_folder(one, one.trained_on) / "00000.safetensors"
    write_shard(place, {"indices": indices, "values": values}, "f")


def _features(one: DictionaryId, rng: np.random.Generator) -> pl.DataFrame:
    rate = rng.uniform(0.01, 0.4, N_LATENTS)
    return pl.DataFrame({
        "feature": [f"{one}/{i}" for i in range(N_LATENTS)], "dictionary": [str(one)] * N_LATENTS,
        "trained_on": [one.trained_on] * N_LATENTS, "layer": [one.layer] * N_LATENTS,
        "latent": np.arange(N_LATENTS), "live": [i % 6 != 5 for i in range(N_LATENTS)], "firing_rate": rate,
        "firing_rate_train": rate, "firing_rate_cultural": rate, "firing_rate_control": rate / 2,
        "mean_active": rng.uniform(0.5, 1, N_LATENTS), "max_active": rng.uniform(2, 4, N_LATENTS),
    })  # fmt: skip


def _examples(features: pl.DataFrame, texts: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    ids = texts["text_id"].to_list()
    rows: list[dict[str, Any]] = []
    for record in features.filter("live").iter_rows(named=True):
        # Every feature shows the hostile and the long text among its strongest.
        chosen = [0, 1, 2, 4, 6, *rng.permutation(np.arange(8, len(ids)))[:5].tolist()]
        for i, row in enumerate(chosen):
            rows.append({
                "feature": record["feature"], "dictionary": record["dictionary"], "latent": record["latent"],
                "rank": i // 2, "row": row, "text_id": ids[row], "activation": record["max_active"] * (1 - i / 12),
                "pool": ("select", "estimate")[i % 2],
            })  # fmt: skip
    return pl.DataFrame(rows)


def _contrasts(ids: list[DictionaryId], sham: bool, rng: np.random.Generator) -> pl.DataFrame:
    rows: list[dict[str, Any]] = []
    for one in ids:
        null = f"sham:{one.trained_on.split(':')[1]}" if ":" in one.trained_on else ""
        kinds = [("culture", None, None)] + ([("shift", None, None)] if one.trained_on == "base" else [])
        kinds += [("facet", "concept", concept) for concept in CONCEPTS]
        for kind, facet, value in kinds:
            nulls = ["sham:a"] if null else ["", "shuffled", *(["sham:a"] if sham and kind == "shift" else [])]
            for which in nulls:
                for language in ("en", "hi", "pooled"):
                    rows += [_contrast(one, latent, kind, facet, value, language, which, rng)
                             for latent in range(N_LATENTS)]  # fmt: skip
    return pl.DataFrame(rows, schema_overrides={"facet": pl.String, "value": pl.String}, infer_schema_length=None)


def _contrast(
    one: DictionaryId, latent: int, kind: str, facet: str | None, value: str | None, language: str, null: str,
    rng: np.random.Generator,
) -> dict[str, Any]:  # fmt: skip
    real = null == "" and latent < 4
    d = float(rng.normal(1.1 if real else 0.0, 0.15))
    q = 0.001 if real else float(rng.uniform(0.2, 1.0))
    return {
        "contrast": kind, "dictionary": str(one), "side_a": "base" if kind == "shift" else one.trained_on,
        "side_b": one.trained_on if kind != "shift" else "chat" if null in ("", "shuffled") else null, "facet": facet,
        "value": value, "language": language, "latent": latent, "feature": f"{one}/{latent}", "null": null,
        "n_a": 40, "n_b": 40, "documents_a": 20, "documents_b": 20, "mean_a": 0.1, "mean_b": 0.2, "d_av": d,
        "d_lo": d - 0.3, "d_hi": d + 0.3, "hedges_g": d * 0.98, "d_z": d if kind == "shift" else None,
        "auroc": 0.5 + min(max(d, -2), 2) / 6, "log_odds": d, "fire_a": 0.1, "fire_b": 0.25, "magnitude_a": 1.0,
        "magnitude_b": 1.1, "p": q / 4, "q": q, "d_av_select": d + 0.1, "p_select": q / 4, "q_select": q,
        "few": latent == 3, "matched": 0.9,
    } | _details(d, q, null, kind, language)  # fmt: skip


def _details(d: float, q: float, null: str, kind: str, language: str) -> dict[str, Any]:
    """Columns of a real contrast that say what else could explain it."""
    group = null == "" and kind != "shift"
    return {
        "sd": 0.5, "auroc_lo": 0.4, "auroc_hi": 0.9, "log_odds_lo": d - 0.4, "log_odds_hi": d + 0.4, "z": 3 * d,
        "p_max": min(1.0, 20 * q), "d_partial": 0.7 * d if group else None, "partial_lo": 0.5 * d if group else None,
        "partial_hi": 0.9 * d if group else None, "d_within": None, "within_lo": None, "within_hi": None,
        "het_p": 0.4 if language == "pooled" else None, "language_auroc": 0.6, "script_only": False,
    }  # fmt: skip


def _geometry(shams: list[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for layer in LAYERS:
        for side, ratio, rank, norm in [("base", 6.1, 9, 4.0), ("chat", 6.4, 9, 4.2), ("delta", 11.2, 13, 1.2),
                                        *((f"delta:{name}", 12.0, 13, 0.8) for name in shams)]:  # fmt: skip
            rows.append({"site": f"{side}.layer{layer:02d}", "layer": layer, "side": side, "rows": 40,
                         "participation_ratio": ratio + layer, "pca90_rank": rank, "mean_norm": norm,
                         "energy_share": norm / 4.0})  # fmt: skip
    return rows


_CRITERIA = [
    ("reconstruction", 0.67, [0.3, 0.93], 1.0, ">=", ("PCA at the same k", 0.33, [0.07, 0.7]), "fail"),
    ("sparsity", 16.0, None, 10.0, ">", ("any dictionary with the same k", 16.0, None), "passes by construction"),
    ("predictive validity", None, None, 0.7, ">=", None, "not measured"),
    ("effect", 0.21, [0.17, 0.26], 0.14, ">", ("sham:a, the same counts", 0.1, [0.07, 0.14]), "pass"),
    ("coherence", 0.64, [0.61, 0.67], 0.6, ">=", ("language-matched random texts", 0.5, [0.49, 0.51]), "pass"),
    ("human agreement", None, None, 0.7, ">=", None, "not measured"),
    ("stability", 0.55, [0.5, 0.6], 0.8, ">", ("random directions", 0.31, [0.3, 0.32]), "fail"),
]


def fake_criteria(sham: bool = True) -> dict[str, Any]:
    criteria = []
    for i, (name, value, ci, threshold, comparison, null, verdict) in enumerate(_CRITERIA, 1):
        if name == "effect" and not sham:
            null, verdict, threshold = None, "not measured", 0.0
        criteria.append({
            "number": i, "name": name, "question": f"Is {name} < what it <should> be?", "published": f"{name} ≥ 0.7",
            "value": value, "ci": ci, "threshold": threshold, "comparison": comparison,
            "null": {"name": null[0], "value": null[1], "ci": null[2]} if null else None, "verdict": verdict,
            "sentence": f"What {name} found, in words.",
            "beside": {"mean L0": 3.9, "not known": None, "what": "<i>x</i>"},
            "per_dictionary": [{"dictionary": "delta.layer01", "value": value, "missing": None}] if i != 6 else [],
        })  # fmt: skip
    return {"study": "fake", "headline": ["2 of 7 criteria pass above their nulls.", "Drift & alignment <differ>."],
            "criteria": criteria}  # fmt: skip


def fake_truth() -> dict[str, Any]:
    scores = {
        "precision": 0.5,
        "recall": 0.5,
        "flagged_on_null": 0,
        "flagged_same_checkpoint": 0,
        "flagged": ["diwali", "rangoli"],
        "missed": ["pongal"],
        "false": ["rangoli"],
        "flagged_on_null_list": [],
    }
    return {
        **scores, "listed": ["diwali", "pongal"], "rule": "energy above <the> threshold, and a delta feature",
        "thresholds": {"energy_ratio": 1.25, "d": 0.8, "q": 0.05, "purity": 0.8, "energy": 0.03,
                       "energy_of": {"holi": 0.03}},
        "energies": {"chat": {"diwali": 0.09, "pongal": 0.028, "rangoli": 0.041},
                     "threshold_sham": {"diwali": 0.024, "pongal": 0.01, "rangoli": 0.02},
                     "null": {"diwali": 0.02, "pongal": 0.012, "rangoli": 0.022}},
        "features": {"diwali": ["delta.layer01/2", "delta.layer02/1"], "rangoli": ["delta.layer01/3"]},
        "no_dictionary": scores | {"flagged_on_null": 1}, "no_energy_gate": scores | {"flagged_on_null": 2},
    }  # fmt: skip
