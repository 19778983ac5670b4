"""A made-up features/crosscheck.json, for tests of what only reads it. Nothing in it was measured."""

from __future__ import annotations

from typing import Any


def null(low: float, high: float) -> dict[str, Any]:
    return {"mean": (low + high) / 2, "range": [low, high], "p": 1 / 201}


def set_row(auroc: float, ci: list[float], random: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "dictionary": "base.layer01",
        "side": "base",
        "language": "en",
        "null": "",
        "chosen": 3,
        "auroc": auroc,
        "ci": ci,
        "random": random,
        "shuffled": null(0.45, 0.55),
        "masked": None,
        **more,
    }


MASKED = {
    "texts": 50,
    "auroc_plain": 0.81,
    "auroc": 0.7,
    "ci": [0.6, 0.8],
    "difference": -0.11,
    "difference_ci": [-0.2, -0.05],
    "changed": 9,
    "on_changed": None,
}
FOUND: dict[str, Any] = {
    "languages": [
        {
            "language": "en",
            "texts": 50,
            "documents": 48,
            "unmatched": 7,
            "controls": 60,
            "control_documents": 30,
            "median_words": 17.0,
            "control_median_words": 15.0,
            "copies": 50,
            "changed": 9,
        }
    ],
    "sets": [
        set_row(0.81, [0.75, 0.88], null(0.4, 0.6), masked=MASKED),
        set_row(0.62, [0.53, 0.7], null(0.4, 0.6), side="chat"),
        set_row(0.5, [0.4, 0.6], null(0.4, 0.6), dictionary="delta.layer01", side="delta"),
        set_row(0.9, [0.8, 0.95], null(0.4, 0.6), dictionary="delta:a.layer01", side="delta:a", null="sham:a"),
        {"dictionary": "chat.layer01", "side": "chat", "language": "en", "null": "", "chosen": 0},
    ],
    "features": [
        {
            "dictionary": "base.layer01",
            "side": "base",
            "language": "en",
            "null": "",
            "feature": "base.layer01/3",
            "latent": 3,
            "d_av_select": 1.1,
            "q_select": 0.001,
            "d_av": 0.9,
            "q": 0.002,
            "fire": 0.5,
            "fire_controls": 0.1,
            "auroc": 0.7,
            "ci": [0.6, 0.8],
            "auroc_masked": 0.61,
        }
    ],
    "enriched": [
        {
            "side": "base",
            "language": "en",
            "feature": "base.layer01/3",
            "facet": "state",
            "value": "<b>goa</b>",
            "n_a": 300,
            "n_b": 17,
            "d_av": 1.4,
            "d_lo": 0.5,
            "d_hi": 2.3,
            "q": 0.01,
            "few": True,
        }
    ],
}
