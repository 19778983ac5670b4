"""A made-up run's frames, and a sheet drawn from them."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from antar.people.config import PeopleConfig
from antar.people.draw import draw_sheet
from antar.people.store import Write, record, record_all

CFG = PeopleConfig(features=12, wrong_share=0.5, repeat_share=0.25, examples=4)
N_FEATURES = {"base.layer02": 30, "chat.layer02": 30, "delta.layer02": 2}
VERDICTS = ("KEEP", "REVISE", "INVALIDATE", "")


def _frames() -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """candidates, examples, texts: half the features in Hindi, labels that share a word by dictionary."""
    texts = pl.DataFrame(
        {
            "text_id": [f"updesh-{i}" for i in range(400)],
            "text": [f"=HYPERLINK({i})" if i == 0 else f"दीया, lamp {i}\nsecond line" for i in range(400)],
            "language": ["hi"] * 400,
        }
    )
    rng = np.random.default_rng(0)
    examples, candidates = [], []
    for site, n in N_FEATURES.items():
        for latent in range(n):
            feature = f"{site}/{latent}"
            candidates.append({
                "feature": feature, "site": site, "label": f"-word{latent} · {site.split('.')[0]}word",
                "language": ("en", "hi")[latent % 2], "category": ("festival", "")[latent % 3 == 0],
                "verdict": VERDICTS[latent % 4], "validator": "judge" if latent % 4 < 3 else "",
                "effect": ("large", "small")[latent % 5 == 0],
            })  # fmt: skip
            for pool, rows in (("select", np.arange(200)), ("estimate", np.arange(200, 400))):
                examples += [
                    {"feature": feature, "rank": rank, "row": int(row), "pool": pool}
                    for rank, row in enumerate(rng.choice(rows, 6, replace=False))
                ]
    candidates.append({**candidates[0], "feature": "base.layer02/99", "label": ""})
    return pl.DataFrame(candidates), pl.DataFrame(examples), texts


@pytest.fixture(scope="session")
def frames():
    return _frames()


def _keys(sheet: Path) -> dict[str, dict[str, object]]:
    database = sqlite3.connect(sheet)
    database.row_factory = sqlite3.Row
    rows = [dict(row) for row in database.execute("SELECT * FROM keys JOIN items USING (item)")]
    database.close()
    return {str(row["item"]): row for row in rows}


_count = iter(range(10**9))


def _put(sheet: Path, who: str, item: str, **fields: str) -> None:
    for field, value in fields.items():
        record(sheet, Write(f"write-{next(_count):08d}", who, item, field, value))


def _answer(
    sheet: Path, who: str, item: str, verdict: str = "KEEP", kind: str = "cultural", pattern: str = "4"
) -> None:
    """All of one item, in the order of the pages."""
    better = {"label": "a better one"} if verdict == "REVISE" else {}
    fields = {"pattern": pattern, "what": "lamps", "revealed": "yes", "verdict": verdict, **better, "kind": kind,
              "seconds": "20", "submitted": "yes"}  # fmt: skip
    record_all(sheet, [Write(f"write-{next(_count):08d}", who, item, field, v) for field, v in fields.items()])


@pytest.fixture(scope="session")
def sheets(frames):
    """How tests make sheets and write into them."""

    def draw(folder: Path, *, seed: int = 3, cfg: PeopleConfig = CFG, annotators=("asha", "ravi"), only=None):
        return draw_sheet(*frames, cfg, seed=seed, annotators=annotators, folder=folder, only=only)

    return SimpleNamespace(draw=draw, keys=_keys, put=_put, answer=_answer, cfg=CFG, n_features=N_FEATURES)


@pytest.fixture
def sheet(sheets, tmp_path) -> Path:
    return sheets.draw(tmp_path).path
