"""Extraction of the study's 40,000 texts on a CUDA device: share of the peak FLOP/s, and seconds. Not yet run on one.

    python -m benchmarks.extract_gpu [--texts 40000] [--rounds 3] [--dtype bfloat16] [--device cuda]

The model has the real shape of Qwen1.5-1.8B and random weights. Text lengths are drawn (log-normal, median 40 tokens,
cut at 512; a guess at the study's), or are those of `--lengths`. Timed is the reading of shards of 1,000 texts, as
the stage does it: batches, forward pass to block 18, pooling, copies to the host; not loading, tokenising or writing.
Counted are the products of the blocks that run and of attention within each text (its lower triangle), as
multiply-adds times two. `mfu` is that beside the device's peak, `of_measured` beside a plain matrix product of this
run. Goals: mfu 0.5, and both sides in under 240 s. On a CPU it runs with small arguments. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from antar.core.atomic import write_json
from antar.core.machine import machine_facts
from antar.models import ExtractConfig, ModelConfig
from antar.models.extract import read_pooled
from antar.models.forward import Reader
from antar.models.tokens import TokenShard
from benchmarks.workers import ROOT, say

RESULT = ROOT / "benchmarks" / "results" / "extract_gpu.json"
LAYERS = (6, 12, 18)
# Qwen/Qwen1.5-1.8B's config.json.
QWEN = {
    "hidden_size": 2048,
    "intermediate_size": 5504,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "vocab_size": 151_936,
    "max_position_embeddings": 32_768,
    "rope_theta": 1_000_000.0,
    "tie_word_embeddings": False,
}
SMALL = QWEN | {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 4}
# Dense bf16 and fp16 FLOP/s with float32 sums, from the vendor's data sheets.
PEAKS = {"H200": 989.4e12, "H100": 989.4e12, "A100": 312e12, "L40S": 362e12}


def draw_lengths(n: int, longest: int) -> np.ndarray:
    lengths = np.exp(np.random.default_rng(0).normal(np.log(40), 0.7, n))
    return np.clip(lengths.round().astype(int), 3, longest)


def shards_of(lengths: np.ndarray, vocabulary: int) -> list[TokenShard]:
    rng = np.random.default_rng(1)
    ids = [rng.integers(0, vocabulary, length).astype(np.int32) for length in lengths]
    keep = [np.ones(length, bool) for length in lengths]
    return [TokenShard(ids[lo : lo + 1000], keep[lo : lo + 1000]) for lo in range(0, len(ids), 1000)]


def flops(lengths: np.ndarray, shape: dict[str, Any], blocks: int) -> float:
    """Of the products that a pass over these texts needs, without a token of padding."""
    d, ff = shape["hidden_size"], shape["intermediate_size"]
    key_value = d * shape["num_key_value_heads"] // shape["num_attention_heads"]
    linear = 2 * (2 * d * d + 2 * d * key_value + 3 * d * ff)  # a token
    pairs = float((lengths.astype(np.float64) * (lengths + 1) / 2).sum())
    return blocks * (linear * float(lengths.sum()) + 2 * 2 * d * pairs)


def measured_rate(device: torch.device, dtype: torch.dtype, size: int) -> float:
    """FLOP/s of one large matrix product."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = [_timed(lambda: a @ b, device) for _ in range(8)]
    return 2 * size**3 / statistics.median(seconds[2:])


def _timed(do: Any, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    before = time.perf_counter()
    do()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - before


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    args = _arguments(argv)
    device, shape = torch.device(args.device), SMALL if args.small else QWEN
    lengths = np.load(args.lengths) if args.lengths else draw_lengths(args.texts, 512)
    shards = shards_of(lengths, shape["vocab_size"])
    settings = {"layers": LAYERS, "dtype": args.dtype, "device": args.device, "token_budget": args.token_budget}
    with tempfile.TemporaryDirectory() as folder:
        _save_config(Path(folder), shape)
        say("drawing the weights")
        reader = Reader(ModelConfig(path=folder, random_weights=0), ExtractConfig.model_validate(settings))
    say(f"packed: {reader.unpacked or 'yes'}")
    read_pooled(reader, shards[0], LAYERS)
    seconds: list[float] = []
    for number in range(args.rounds):
        seconds.append(_timed(lambda: [read_pooled(reader, shard, LAYERS) for shard in shards], device))
        say(f"round {number + 1}: {seconds[-1]:.1f} s")
    median, work = statistics.median(seconds), flops(lengths, shape, max(LAYERS) + 1)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    peak = next((rate for part, rate in PEAKS.items() if part in name), None)
    measured = measured_rate(device, getattr(torch, args.dtype), 64 if args.small else 8192)
    result: dict[str, Any] = {
        "benchmark": "extract_gpu",
        "mfu": None if peak is None else work / median / peak,
        "of_measured": work / median / measured,
        "seconds_two_sides_40k": 2 * median * 40_000 / len(lengths),
        "seconds": seconds,
        "texts": len(lengths),
        "tokens": int(lengths.sum()),
        "texts_per_second": len(lengths) / median,
        "dtype": args.dtype,
        "packed": reader.unpacked is None,
        "token_budget": reader.budget,
        "flops": work,
        "device": name,
        "machine": machine_facts(),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(args.out, result)
    print(json.dumps(result))
    return result


def _save_config(folder: Path, shape: dict[str, Any]) -> None:
    from transformers import AutoConfig

    AutoConfig.for_model("qwen2", **shape).save_pretrained(folder)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=40_000)
    parser.add_argument("--lengths", type=Path, help="an .npy of tokens a text, e.g. of the real corpus")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--token-budget", type=int, default=None)
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--small", action="store_true", help="a narrow model, for a smoke test; its numbers mean nothing"
    )
    parser.add_argument("--out", type=Path, default=RESULT)
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
