"""Shared by the corpora tests: small files of the hub's schemas, and the folder of real data where it is present."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

REPO_ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def shared_data() -> Path:
    folder = Path(os.environ.get("ANTAR_SHARED_DATA", REPO_ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not present: no folder {folder} (set ANTAR_SHARED_DATA)")
    return folder


@pytest.fixture
def write_jsonl(tmp_path: Path) -> Callable[[str, list[dict[str, Any]]], Path]:
    def write(name: str, rows: list[dict[str, Any]]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


# fmt: off
EN = ["festival", "river", "potter", "village", "temple", "dance", "harvest", "drum",
      "weaver", "market", "sweet", "lamp", "boat", "song", "mango", "clay"]
HI = ["त्योहार", "नदी", "कुम्हार", "गाँव", "मंदिर", "नृत्य", "फसल", "ढोल",
      "बुनकर", "बाज़ार", "मिठाई", "दीपक", "नाव", "गीत", "आम", "मिट्टी"]
# fmt: on


def sentence(number: int, language: str, words: int = 8) -> str:
    """A sentence that no other number has."""
    lexicon = HI if language == "hi" else EN
    picked = [lexicon[(number * 7 + place * (number % 5 + 1) * 3) % len(lexicon)] for place in range(words - 1)]
    return " ".join([*picked, f"{number}"]) + (" ।" if language == "hi" else ".")


@pytest.fixture
def make_sentence() -> Callable[..., str]:
    return sentence


@pytest.fixture
def hub_folder(tmp_path: Path) -> Path:
    """A folder with Updesh, SNLI and IITB files of the hub's layout, in both forms that Updesh has had."""
    folder = tmp_path / "hub"
    updesh = folder / "Updesh_beta" / "cultural_multihop_reasoning"
    updesh.mkdir(parents=True)

    def conversation(number: int, language: str) -> list[dict[str, str]]:
        return [
            {"role": "user", "content": f"question {number}"},
            {"role": "assistant", "content": f"draft {number} not this one"},
            {"role": "user", "content": "again"},
            {"role": "assistant", "content": sentence(number, language, 12)},
        ]

    pl.DataFrame(
        {"id": [f"c{i}" for i in range(60)], "messages": [conversation(i, "en") for i in range(60)]}
    ).write_parquet(updesh / "eng_Latn-00000-of-00001.parquet")
    pl.DataFrame(
        {
            "id": list(range(60)),
            "messages": [json.dumps(conversation(i, "hi"), ensure_ascii=False) for i in range(60)],
        }
    ).write_parquet(updesh / "hin_Deva-00000-of-00001.parquet")
    snli = folder / "snli" / "plain_text"
    snli.mkdir(parents=True)
    premises = [sentence(1000 + i // 3, "en", 9) for i in range(90)] + ["Too short.", "A text that nobody labelled."]
    pl.DataFrame({"premise": premises, "hypothesis": ["h"] * 92, "label": [0, 1, 2] * 30 + [1, -1]}).write_parquet(
        snli / "train-00000-of-00001.parquet"
    )
    iitb = folder / "iitb-english-hindi" / "data"
    iitb.mkdir(parents=True)
    hindi = [sentence(2000 + i, "hi", 11) for i in range(40)] + ["बहुत छोटा", " ".join(["लंबा"] * 51)]
    pl.DataFrame({"translation": [{"en": "x", "hi": text} for text in hindi]}).write_parquet(
        iitb / "train-00000-of-00001.parquet"
    )
    return folder
