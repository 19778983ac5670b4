"""Memory of a token-level study of 20 million rows: training, codes, examples and a contrast, row after row.

    python -m benchmarks.streaming_memory [--rows 20000000] [--in FOLDER]

Writes a run folder whose activations are one row a token (`extract.pooling: none`): texts of 10 to 40 tokens (25 on
average), five a document, base and chat at one layer, 64 columns, 1,000 texts a shard: 5 GB a side at full size,
removed afterwards. Rows are sparse sums of planted directions; chat has a few of them more on cultural texts. Then
the stages' own code trains one dictionary on the delta (one epoch), encodes every token and pools a text's codes,
makes features and top examples, and measures `culture`. The resident set is sampled twice a second (`RssAnon`: what
the process allocated; `RssFile`: libraries and mapped shards, which the system may drop), beside the rows that the
phase has read so far. Prints one JSON line; writes `results/streaming_memory.json` and, for the reader,
`docs/streaming_memory.svg`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from antar.core.atomic import write_parquet, write_text
from antar.core.machine import machine_facts, package_versions
from antar.core.manifest import MANIFEST_NAME, Fingerprint, write_manifest
from antar.core.shards import shard_name, write_shard
from antar.core.sites import DictionaryId, Site
from antar.engines import InlineEngine
from antar.features import ContrastConfig, StoredCodes, measure_contrasts
from antar.models import TokenSite
from antar.stages import features, train
from antar.stages.context import Context
from antar.study import parse_study

ROWS, WIDTH, LAYER = 20_000_000, 64, 0
TOKENS = 10, 40  # a text's fewest and most
TEXTS_PER_SHARD, TEXTS_PER_DOCUMENT, DIRECTIONS = 1000, 5, 96
LIMIT_GB = 4.0
RESULT = Path(__file__).parent / "results" / "streaming_memory.json"
PLOT = Path(__file__).parent.parent / "docs" / "streaming_memory.svg"
STUDY: dict[str, Any] = {
    "study": "streaming",
    "models": {"base": {"path": "none"}, "chat": {"path": "none"}},
    "corpus": {"sources": [{"source": "files", "paths": ["none.jsonl"], "group_column": "group"}]},
    "extract": {"layers": [LAYER], "pooling": "none", "texts_per_shard": TEXTS_PER_SHARD},
    "dictionaries": {
        "sides": ["delta"], "baselines": [], "n_latents": 512, "k": 8, "batch": 4096, "max_epochs": 1,
        "check_every_epochs": 1, "lr": 1e-3,
    },
}  # fmt: skip


@dataclass
class Watch:
    """Samples the process's memory in a thread; `rows` is advanced by whoever reads rows."""

    phase: str = ""
    rows: int = 0
    samples: list[dict[str, Any]] = field(default_factory=list)

    def sample(self) -> None:
        lines = Path("/proc/self/status").read_text().splitlines()
        kib = {name: int(value.split()[0]) for name, value in (one.split(":") for one in lines if "Rss" in one)}
        gb = {name: round(kib[name] * 1024 / 1e9, 3) for name in ("RssAnon", "RssFile")}
        self.samples.append({"phase": self.phase, "rows": self.rows, **gb})

    @contextmanager
    def watching(self, seconds: float = 0.5) -> Iterator[None]:
        over = threading.Event()

        def watch() -> None:
            while not over.wait(seconds):
                self.sample()

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def counting(self) -> None:
        """Count the rows of every block of activations, and of every shard of codes by its texts' mean length."""
        read, parts = TokenSite.read, StoredCodes.parts

        def counted_read(site: TokenSite, block: Any) -> np.ndarray:
            acts_nd = read(site, block)
            self.rows += len(acts_nd)
            return acts_nd

        def counted_parts(codes: StoredCodes) -> Iterator[Any]:
            for first, part in parts(codes):
                yield first, part
                self.rows += len(part) * sum(TOKENS) // 2

        TokenSite.read, StoredCodes.parts = counted_read, counted_parts


def make_texts(n: int) -> pl.DataFrame:
    document = np.arange(n) // TEXTS_PER_DOCUMENT
    rng = np.random.default_rng(1)
    n_documents = int(document[-1]) + 1
    split = rng.choice(["train", "val", "heldout"], n_documents, p=[0.7, 0.1, 0.2])
    half = rng.choice(["select", "estimate"], n_documents)
    return pl.DataFrame(
        {
            "text_id": [f"t{i}" for i in range(n)],
            "group": np.where(np.arange(n_documents) % 2 == 0, "cultural", "control")[document],
            "language": np.where(np.arange(n_documents) % 4 < 2, "en", "hi")[document],
            "document": [f"d{i}" for i in document],
            "split": split[document],
            "half": half[document],
            "characters": rng.integers(40, 160, n),
        }
    )


def write_run(folder: Path, n_texts: int, watch: Watch) -> Context:
    """The run folder as corpus and extraction would have left it."""
    texts = make_texts(n_texts)
    write_parquet(folder / "corpus" / "texts.parquet", texts)
    corpus = folder / "corpus"
    write_manifest(corpus / MANIFEST_NAME, "corpus", Fingerprint(), [corpus / "texts.parquet"], {"n_texts": n_texts})
    cultural = (texts["group"] == "cultural").to_numpy()
    rng = np.random.default_rng(2)
    directions = rng.standard_normal((DIRECTIONS, WIDTH)).astype(np.float32)
    files: dict[str, list[Path]] = {"base": [], "chat": []}
    for shard, lo in enumerate(range(0, n_texts, TEXTS_PER_SHARD)):
        its = cultural[lo : lo + TEXTS_PER_SHARD]
        for side, acts_nd, offsets in _shard(shard, its, directions):
            path = folder / "activations" / Site(side, LAYER).folder / shard_name(shard)
            write_shard(path, {"acts": acts_nd, "offsets": offsets}, "made")
            files[side].append(path)
        watch.rows += int(offsets[-1])
    for side, its_files in files.items():
        name = f"activations/{Site(side, LAYER)}"
        write_manifest(its_files[0].with_name(MANIFEST_NAME), name, Fingerprint(), its_files)
    return Context(parse_study(STUDY, "benchmark"), folder, folder, InlineEngine())


def _shard(shard: int, cultural: np.ndarray, directions: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(side, rows, offsets) of base and chat. What chat adds: each direction now and then, the first eight of them
    twice as often on cultural texts."""
    rng = np.random.default_rng([3, shard])
    lengths = rng.integers(TOKENS[0], TOKENS[1] + 1, len(cultural))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    n = int(offsets[-1])
    base_nd = rng.standard_normal((n, WIDTH), np.float32) + 2
    share = np.full((2, DIRECTIONS), 0.04, np.float32)
    share[1, :8] = 0.08
    fires = rng.random((n, DIRECTIONS), np.float32) < share[np.repeat(cultural.astype(int), lengths)]
    added_nd = (fires * rng.exponential(1, (n, DIRECTIONS)).astype(np.float32)) @ directions
    noise_nd = 0.1 * rng.standard_normal((n, WIDTH), np.float32)
    yield "base", base_nd, offsets
    yield "chat", base_nd + 0.3 * added_nd + noise_nd, offsets


def measure(context: Context) -> int:
    """Rows of the `culture` table."""
    one = DictionaryId("delta", LAYER)
    codes = {(one, "delta"): context.stored_codes(one, "delta")}
    config = ContrastConfig(shift=False, interaction=False)
    return measure_contrasts(context.texts(), codes, config, seed=0).height


def run(folder: Path, rows: int) -> dict[str, Any]:
    watch = Watch()
    n_texts = max(40, 2 * rows // sum(TOKENS))
    made: list[Context] = []
    phases: dict[str, Callable[[], Any]] = {
        "writing": lambda: made.append(write_run(folder, n_texts, watch)),
        "training": lambda: train.make(made[0]),
        "codes": lambda: features.make_codes(made[0]),
        "features and examples": lambda: features.make(made[0]),
        "contrast": lambda: measure(made[0]),
    }
    watch.counting()
    seconds: dict[str, float] = {}
    with watch.watching():
        for name, work in phases.items():
            watch.phase, watch.rows = name, 0
            started = time.monotonic()
            work()
            watch.sample()
            seconds[name] = round(time.monotonic() - started, 1)
            print(f"{name}: {seconds[name]} s", flush=True)
    return report(made[0], watch.samples, seconds)


def report(context: Context, samples: list[dict[str, Any]], seconds: dict[str, float]) -> dict[str, Any]:
    def total(sample: dict[str, Any]) -> float:
        return round(sample["RssAnon"] + sample["RssFile"], 3)

    peaks = {
        name: {key: max(one[key] for one in samples if one["phase"] == name) for key in ("RssAnon", "RssFile")}
        | {"RSS": max(total(one) for one in samples if one["phase"] == name), "seconds": its}
        for name, its in seconds.items()
    }
    one = DictionaryId("delta", LAYER)
    metrics = json.loads((context.folder / "dictionaries" / one.folder / "metrics.json").read_bytes())
    return {
        "benchmark": "streaming_memory",
        "rows": TokenSite(context.folder, Site("base", LAYER)).n_rows,
        "texts": context.n_texts(),
        "width": WIDTH,
        "dictionary": {name: context.study.dictionaries.model_dump()[name] for name in ("n_latents", "k", "batch")},
        "heldout_fvu": round(metrics["parts"]["heldout"]["fvu"], 4),
        "peak_rss_gb": max(one["RSS"] for one in peaks.values()),
        "limit_gb": LIMIT_GB,
        "phases": peaks,
        "samples": _thinned(samples),
        "machine": machine_facts(),
        "versions": package_versions(),
    }


def _thinned(samples: list[dict[str, Any]], most: int = 120) -> list[dict[str, Any]]:
    """At most so many samples a phase, each the largest of its stretch: what a plot needs."""
    kept: list[dict[str, Any]] = []
    for phase in dict.fromkeys(one["phase"] for one in samples):
        its = [one for one in samples if one["phase"] == phase]
        parts = np.array_split(np.arange(len(its)), min(most, len(its)))
        kept += [max((its[i] for i in part), key=lambda one: one["RssAnon"] + one["RssFile"]) for part in parts]
    return kept


def draw(result: dict[str, Any], path: Path) -> None:
    """One panel a phase: resident memory over the rows that it has read."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "antar", "font.size": 8}):
        phases = list(result["phases"])
        figure, panels = pyplot.subplots(1, len(phases), figsize=(12, 2.8), sharey=True)
        for panel, phase in zip(panels, phases, strict=True):
            its = sorted((one for one in result["samples"] if one["phase"] == phase), key=lambda one: one["rows"])
            rows = [one["rows"] / 1e6 for one in its]
            anon = [one["RssAnon"] for one in its]
            panel.plot(rows, [a + one["RssFile"] for a, one in zip(anon, its, strict=True)], label="RSS")
            panel.plot(rows, anon, linestyle="--", label="of it allocated (RssAnon)")
            panel.axhline(result["limit_gb"], color="grey", linewidth=0.8)
            panel.set_title(phase, loc="left")
            panel.set_xlabel("million rows read")
            panel.set_ylim(0, result["limit_gb"] * 1.1)
        panels[0].set_ylabel("GB")
        panels[0].legend(frameon=False, loc="upper left")
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--in", dest="place", type=Path, help="where the run folder is made and removed")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--plot", type=Path, default=PLOT)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="antar-streaming-", dir=asked.place))
    try:
        result = run(folder, asked.rows)
    finally:
        shutil.rmtree(folder)
    line = json.dumps(result)
    print(line)
    write_text(asked.out, line + "\n")
    draw(result, asked.plot)


if __name__ == "__main__":
    main()
