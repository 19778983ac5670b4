"""How quickly `antar serve` answers on a run of 62,010 features with 20 examples each, and how much memory it takes.

The run is generated: 9 dictionaries of 6,890 latents, 40,000 texts of 20 to 90 Hindi or English words drawn by Zipf's
law, culture and shift in two languages and pooled beside two nulls, 18 states as facets, a label and a verdict for
each feature, codes and weights of one layer. The server is a process of its own, asked over HTTP one request at a
time. Goals: a page of the table under 100 ms and a search under 200 ms at the median, an answer within 3 s of the
start, and less than 500 MB. Beside the clock stands the server's own processor time, for machines that others use
too (`load`). Prints one JSON document; `--out` writes it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import yaml

from antar.core.atomic import write_json, write_parquet, write_safetensors, write_text
from antar.core.machine import machine_facts
from antar.core.progress import say
from antar.core.shards import write_shard
from antar.core.sites import DictionaryId, codes_folder
from antar.web.explore.index import CACHE

SIDES, LAYERS, LATENTS = ("base", "chat", "delta"), (6, 12, 18), 6890
TEXTS, EXAMPLES, STATES, K, WIDTH = 40_000, 20, 18, 64, 1024
GOALS = {"table_ms": 100, "search_ms": 200, "start_s": 3, "rss_mb": 500}
TABLE = ("", "?page=700", "?sort=q", "?sort=label&page=9", "?site=delta&layer=12", "?verdict=KEEP&of=culture",
         "?of=shift&d_min=0.2", "?changed=1", "?cultural=1&language=hi", "?sort=firing&reverse=1", "?of=facet&sort=q",
         "?q_max=0.05&prediction_min=0.6")  # fmt: skip


def write_run(folder: Path, seed: int = 0) -> None:
    """The generated run. Nothing in it was measured."""
    rng = np.random.default_rng(seed)
    vocabulary = words_of(rng)
    texts = texts_of(vocabulary, rng)
    ids = [DictionaryId(side, layer) for side, layer in product(SIDES, LAYERS)]
    study = {"study": "large", "models": {"names": {"base": "large base", "chat": "large chat"}},
             "extract": {"layers": list(LAYERS)}, "dictionaries": {"seeds": 0, "folds": 0},
             "criteria": {"d": 0.8, "q": 0.05}}  # fmt: skip
    write_text(folder / "study.yaml", yaml.safe_dump(study))
    write_parquet(folder / "corpus/texts.parquet", texts)
    features = pl.concat([features_of(one, rng) for one in ids])
    write_parquet(folder / "features/features.parquet", features)
    write_parquet(folder / "features/examples.parquet", examples_of(ids, texts, rng))
    write_parquet(folder / "features/contrasts.parquet", pl.concat([contrasts_of(one, rng) for one in ids]))
    write_labels(folder, features["feature"].to_list(), vocabulary, rng)
    for one in ids:
        if one.layer == LAYERS[0]:
            write_dictionary(folder, one, rng)


def words_of(rng: np.random.Generator) -> dict[str, list[str]]:
    """20,000 words a language: antar's stopwords, the most frequent, then made-up ones."""
    found: dict[str, list[str]] = {}
    for language, letters in (("hi", "कखगचजटडतदनपबमयरलवसह"), ("en", "bcdfghklmnprstvwy")):
        common = files("antar.interpret").joinpath(f"data/stopwords_{language}.txt").read_text(encoding="utf-8")
        ends = ("ा", "ि", "ी", "े", "ो", "", "ं") if language == "hi" else ("a", "e", "i", "o", "u", "", "an")
        made = {
            "".join(str(rng.choice(list(letters))) + str(rng.choice(ends)) for _ in range(3)) for _ in range(24000)
        }
        found[language] = [*common.split(), "दीवाली" if language == "hi" else "festival", *sorted(made)][:20000]
    return found


def texts_of(vocabulary: dict[str, list[str]], rng: np.random.Generator) -> pl.DataFrame:
    rows: list[dict[str, Any]] = []
    for i in range(TEXTS):
        language, group = ("en", "hi")[i % 2], ("cultural", "control")[(i // 2) % 2]
        ranks = np.minimum(rng.zipf(1.25, rng.integers(20, 90)) - 1, 19_999)
        words = vocabulary[language]
        rows.append({
            "text_id": f"text-{i:05d}", "text": " ".join(words[r] for r in ranks), "group": group,
            "language": language, "source": "generated", "document": f"d{i // 4}",
            "split": ("train", "heldout")[(i // 4) % 2], "half": ("select", "estimate")[(i // 8) % 2],
            "state": f"State {i % STATES}" if group == "cultural" else None,
        })  # fmt: skip
    return pl.DataFrame(rows, schema_overrides={"state": pl.String})


def features_of(one: DictionaryId, rng: np.random.Generator) -> pl.DataFrame:
    rate = 10 ** rng.uniform(-3.5, -0.5, LATENTS)
    return pl.DataFrame({
        "feature": [f"{one}/{i}" for i in range(LATENTS)], "dictionary": str(one), "trained_on": one.trained_on,
        "layer": one.layer, "latent": np.arange(LATENTS), "live": True, "firing_rate": rate,
        "firing_rate_train": rate, "firing_rate_cultural": rate, "firing_rate_control": rate / 2,
        "mean_active": rng.uniform(0.5, 1, LATENTS), "max_active": rng.uniform(2, 4, LATENTS),
    })  # fmt: skip


def examples_of(ids: list[DictionaryId], texts: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    names = [f"{one}/{i}" for one in ids for i in range(LATENTS)]
    n = len(names) * EXAMPLES
    rows = rng.integers(0, TEXTS, n)
    return pl.DataFrame({
        "feature": np.repeat(names, EXAMPLES), "dictionary": np.repeat([str(one) for one in ids], LATENTS * EXAMPLES),
        "latent": np.tile(np.repeat(np.arange(LATENTS), EXAMPLES), len(ids)),
        "rank": np.tile(np.arange(EXAMPLES) // 2, len(names)), "row": rows, "text_id": texts["text_id"].gather(rows),
        "activation": np.tile(np.linspace(3, 1, EXAMPLES, dtype=np.float32), len(names)),
        "pool": np.tile(np.array(["select", "estimate"] * (EXAMPLES // 2)), len(names)),
    })  # fmt: skip


def contrasts_of(one: DictionaryId, rng: np.random.Generator) -> pl.DataFrame:
    """Columns as `measure` writes them, those that pages read and as many others."""
    kinds: list[tuple[str, str | None, str | None, str]] = [
        (kind, None, None, language)
        for kind in ("culture", *(("shift", "interaction") if one.trained_on == "base" else ()))
        for language in ("en", "hi", "pooled")
    ]
    kinds += [("facet", "state", f"State {i}", "pooled") for i in range(STATES)]
    frames: list[pl.DataFrame] = []
    for (kind, facet, value, language), null in product(kinds, ("", "shuffled", "sham:a")):
        paired = kind in ("shift", "interaction")
        d = rng.normal(0, 0.3 if null == "" else 0.1, LATENTS)
        others = {name: rng.normal(size=LATENTS) for name in (
            "mean_a", "mean_b", "sd", "hedges_g", "log_odds", "log_odds_lo", "log_odds_hi", "magnitude_a", "z", "p",
            "auroc", "auroc_lo", "auroc_hi", "d_partial", "d_within", "het_p")}  # fmt: skip
        frames.append(pl.DataFrame({
            "contrast": kind, "dictionary": str(one), "side_a": one.trained_on,
            "side_b": "chat" if paired else one.trained_on, "facet": facet, "value": value, "language": language,
            "latent": np.arange(LATENTS), "feature": [f"{one}/{i}" for i in range(LATENTS)], "null": null,
            "n_a": 400, "n_b": 400, "d_av": d, "d_lo": d - 0.1, "d_hi": d + 0.1, "q": rng.uniform(0, 1, LATENTS) ** 3,
            "fire_a": 0.1, "fire_b": 0.2, "d_av_select": d + rng.normal(0, 0.1, LATENTS), "few": False,
            "script_only": False, **others,
        }, schema_overrides={"facet": pl.String, "value": pl.String}))  # fmt: skip
    return pl.concat(frames)


def write_labels(folder: Path, names: list[str], vocabulary: dict[str, list[str]], rng: np.random.Generator) -> None:
    languages = rng.integers(0, 2, len(names))
    ranks = np.minimum(rng.zipf(1.25, (len(names), 5)) + 200, 19_999)
    labels: list[str] = []
    verdicts: list[str] = []
    for i, name in enumerate(names):
        words = vocabulary[("en", "hi")[languages[i]]]
        label = " · ".join(words[rank] for rank in ranks[i])
        labels.append(json.dumps({"feature": name, "coherent": True, "label": label, "reason": "generated"}))
        verdicts.append(json.dumps({"feature": name, "verdict": ("KEEP", "REVISE", "INVALIDATE")[i % 3],
                                    "reason": "generated", "label": None}))  # fmt: skip
    write_text(folder / "interpret/labels.jsonl", "\n".join(labels) + "\n")
    write_text(folder / "interpret/verdicts.jsonl", "\n".join(verdicts) + "\n")


def write_dictionary(folder: Path, one: DictionaryId, rng: np.random.Generator) -> None:
    rows_nd = rng.normal(size=(LATENTS, WIDTH)).astype(np.float32)
    rows_nd /= np.linalg.norm(rows_nd, axis=1, keepdims=True)
    place = folder / "dictionaries" / one.folder
    write_json(place / "cfg.json", {})
    write_safetensors(place / "sae_weights.safetensors", {"W_dec": rows_nd})
    for side in ("base", "chat") if one.trained_on == "base" else (one.trained_on,):
        indices = rng.integers(0, LATENTS, (TEXTS, K), dtype=np.int32)
        values = rng.exponential(size=(TEXTS, K)).astype(np.float32)
        write_shard(
            folder / "codes" / codes_folder(one, side) / "00000.safetensors",
            {"indices": indices, "values": values},
            "f",
        )


# -- measuring ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Timed:
    """Clock times in ms, and processor time in ms a request."""

    times: list[float]
    cpu: float


@dataclass
class Served:
    """A server in a process of its own, and a client that has its session."""

    process: subprocess.Popen[str]
    client: httpx.Client
    start_s: float

    def ms(self, path: str) -> float:
        began = time.perf_counter()
        answer = self.client.get(path)
        took = 1000 * (time.perf_counter() - began)
        assert answer.status_code == 200, (path, answer.status_code)
        return took

    def cpu_ms(self) -> float:
        """Processor time of the server so far: unlike the clock, it does not count who else is at work here."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return 1000 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def timed(self, paths: list[str]) -> Timed:
        before = self.cpu_ms()
        times = [self.ms(path) for path in paths]
        return Timed(times, (self.cpu_ms() - before) / len(paths))

    def memory_mb(self, name: str) -> float:
        """VmRSS: now; VmHWM: at most."""
        found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        assert found is not None
        return int(found[1]) / 1024

    def stop(self) -> None:
        self.client.close()
        self.process.terminate()
        self.process.wait()


def start(folder: Path) -> Served:
    """From the command to the first page that a session sees, whether it is the table or says that it is coming."""
    code = "from antar.cli import main; main()"
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", code, "serve", str(folder), "--port", "0"], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    link = ""
    while not link and (line := process.stderr.readline()):
        link = next(iter(re.findall(r"http://\S+", line)), "")
    client = httpx.Client(base_url=link.split("/?")[0], timeout=120)
    client.get(link, follow_redirects=False)
    client.get("/static/antar.css")
    return Served(process, client, time.perf_counter() - began)


def wait_for_index(served: Served) -> float:
    began = time.perf_counter()
    while served.client.get("/features").status_code == 202:
        time.sleep(0.2)
    return time.perf_counter() - began


def searches(folder: Path, n: int, rng: np.random.Generator) -> list[str]:
    """Words of the run's own texts, half Hindi: frequent and rare, alone and in twos, as beginnings and in quotes."""
    texts = pl.read_parquet(folder / "corpus/texts.parquet", columns=["text"])["text"]
    found: list[str] = []
    for i in range(n):
        words = str(texts[int(rng.integers(TEXTS))]).split()
        one, two = words[int(rng.integers(len(words) - 1))], words[-1]
        pair = words[:2]
        found.append((one, f"{one} {two}", one[:2], f'"{" ".join(pair)}"', "दिवाली", words[0])[i % 6])
    return found


def measure(folder: Path, repeats: int) -> dict[str, Any]:
    say("first start: the index is built")
    (folder / CACHE).unlink(missing_ok=True)
    first = start(folder)
    built_s = wait_for_index(first)
    first.stop()
    say("second start: the index is there")
    served = start(folder)
    ready_s = served.start_s + wait_for_index(served)
    start_cpu_s, load = served.cpu_ms() / 1000, os.getloadavg()[0]
    rng = np.random.default_rng(1)
    asked = searches(folder, 6 * repeats, rng)
    layer = f"{LAYERS[0]:02d}"
    results = {
        "table": served.timed([f"/features{query}" for query in TABLE * repeats]),
        "search": served.timed(["/features?" + str(httpx.QueryParams({"text": text})) for text in asked]),
        "feature": served.timed([f"/feature/base.layer{layer}/{i}" for i in rng.integers(0, LATENTS, 4 * repeats)]),
        "compare": served.timed(["/compare"] * repeats),
    }
    now, most = served.memory_mb("VmRSS"), served.memory_mb("VmHWM")
    served.stop()
    numbers = {f"{name}_ms": round(statistics.median(its.times), 1) for name, its in results.items()}
    numbers |= {f"{name}_ms_p95": round(float(np.quantile(its.times, 0.95)), 1) for name, its in results.items()}
    numbers |= {f"{name}_cpu_ms": round(its.cpu, 1) for name, its in results.items()}
    return numbers | {
        "start_s": round(first.start_s, 2), "start_cpu_s": round(start_cpu_s, 2), "load": round(load, 1),
        "index_built_s": round(built_s, 1), "ready_again_s": round(ready_s, 2),
        "rss_mb": round(most), "rss_now_mb": round(now),
        "index_mb": round((folder / CACHE).stat().st_size / 2**20),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--run", type=Path, help="keep the generated run here, or use the one that is here")
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder: Path = chosen.run or Path(scratch) / "large"
        if not (folder / "study.yaml").exists():
            say("generating the run")
            write_run(folder)
        numbers = measure(folder, chosen.repeats)
    met = {name: numbers[name] < goal for name, goal in GOALS.items()}
    report = {"features": len(SIDES) * len(LAYERS) * LATENTS, "examples": EXAMPLES, "texts": TEXTS, **numbers,
              "goals": GOALS, "met": met, "machine": machine_facts()}  # fmt: skip
    text = json.dumps(report, indent=1) + "\n"
    if chosen.out:
        write_text(chosen.out, text)
    print(text, end="")


if __name__ == "__main__":
    main()
