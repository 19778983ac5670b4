"""The nine dictionaries of a study, trained as one stack on a CUDA device, end to end. Not yet run on one.

    python -m benchmarks.train_gpu [--batches 256,2048] [--epochs 100] [--rows 30000] [--peers saelens]

Rows are synthetic, of the study's shape: base and chat at three layers, chat being base and a small sparse change,
and their difference. Each batch size gives wall seconds (rows in memory → dictionaries in memory: checks of the rows,
copies, kernels, recording, 100 epochs without early stopping, all validations), samples/s, FVU, and the share of two
bounds: the issue's paper bound for one H200 (37 s at batch 256, 10 s at 2,048), where the device is one, and one from
the product rate and memory bandwidth that are measured here. Beside them: FVU against the CPU path after a short
equal training, dense against sparse decode, and the peers that can be imported, one dictionary at a time. On a CPU it
runs with small arguments, as a smoke test. Prints one JSON line; what it is doing goes to standard error.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from antar.core.atomic import write_json
from antar.core.machine import machine_facts
from antar.core.seeds import derive_seed
from antar.dictionaries import DictionaryConfig, TrainedDictionary, preset, train_dictionary
from antar.dictionaries.compute import precision_of
from antar.dictionaries.data import Scaling, steps_per_epoch
from antar.dictionaries.stacked import StackedJob, train_stacked
from antar.dictionaries.stacked.train import StackedTraining
from antar.dictionaries.weights import Weights
from benchmarks.data import Truth, make_rows
from benchmarks.evaluate import evaluate
from benchmarks.peers import driver_class
from benchmarks.peers.worker import versions
from benchmarks.setting import Plain, Setting, start_weights
from benchmarks.workers import ROOT, say

RESULT = ROOT / "benchmarks" / "results" / "train_gpu.json"
# Seconds on one H200, for nine dictionaries, 30,000 rows and 100 epochs.
PAPER_BOUND = {256: 37.0, 2048: 10.0}
PAPER_SHAPE = (9, 30_000, 100, 2048, 8192, 256)
SIDES = ("base", "chat", "delta")
CHANGE = 0.1  # length of the change from base to chat beside base's
# What a step has to move of each parameter, in bytes: weight and two moments in and out (24) and the bf16 copy out
# (2); a bf16 gradient out once and in twice, for its norm and for the update (6); the copies as the products read
# them, the encoder's once and the decoder's twice (3); the decoder once more for the tangent part (2).
PARAMETER_BYTES = 37
# Products of a step: encode, decode, gradient of the codes, gradients of encoder and decoder.
PRODUCTS = 5
NOTES = (
    "antar trains all dictionaries at once, peers one after another; a peer's samples/s is of its step alone, on "
    "rows that lie on the device. k_aux and clipping of the peers are as benchmarks/train_speed.py says."
)


@dataclass(frozen=True)
class Shape:
    dictionaries: int
    rows: int
    held_out: int
    epochs: int
    d_model: int
    n_latents: int
    k: int

    def is_the_papers(self) -> bool:
        return (self.dictionaries, self.rows, self.epochs, self.d_model, self.n_latents, self.k) == PAPER_SHAPE


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    args = _arguments(argv)
    device = torch.device(args.device)
    shape = Shape(args.dictionaries, args.rows, args.held_out, args.epochs, args.d_model, args.n_latents, args.k)
    say("making rows")
    jobs = make_jobs(shape, args.active)
    result: dict[str, Any] = {
        "benchmark": "train_gpu",
        "notes": NOTES,
        "shape": asdict(shape),
        "device": device_name(device),
        "machine": machine_facts(),
        "versions": versions(("antar", "torch", "triton", "numba")),
        "rates": rates(shape, device),
        "batches": {},
    }
    for batch in args.batches:
        result["batches"][str(batch)] = run_batch(batch, shape, jobs, device, args, result["rates"])
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(args.out, result)
    print(json.dumps(result))
    return result


def run_batch(
    batch: int,
    shape: Shape,
    jobs: list[StackedJob],
    device: torch.device,
    args: argparse.Namespace,
    rate: dict[str, float],
) -> dict[str, Any]:
    cfg = config(shape, batch, device)
    say(f"batch {batch}: {len(jobs)} dictionaries, {shape.epochs} epochs")
    before = time.perf_counter()
    trained = train_stacked(jobs, cfg, device=device, checkpoint=None, title=f"batch {batch}")
    seconds = time.perf_counter() - before
    bound = bound_seconds(shape, batch, rate)
    paper = PAPER_BOUND.get(batch) if "H200" in device_name(device) and shape.is_the_papers() else None
    say(f"batch {batch}: {seconds:.1f} s; step, decode, CPU path, peers")
    return {
        "config": cfg.training_fields(),
        "seconds": round(seconds, 2),
        "samples_per_s": round(shape.dictionaries * shape.rows * shape.epochs / seconds, 1),
        "milliseconds_a_step": round(1e3 * step_seconds(jobs, cfg, device), 4),
        "bound_seconds": round(bound, 2),
        "share_of_bound": round(bound / seconds, 3),
        "paper_bound_seconds": paper,
        "share_of_paper_bound": None if paper is None else round(paper / seconds, 3),
        "dictionaries": {job.name: summary(one) for job, one in zip(jobs, trained, strict=True)},
        "decode": decode_seconds(shape, batch, device),
        "cpu_path": against_cpu(jobs, replace(shape, epochs=args.cpu_epochs), batch, device),
        "peers": against_peers(jobs[0], shape, batch, device, args),
    }


def config(shape: Shape, batch: int, device: torch.device) -> DictionaryConfig:
    return preset(
        "antar",
        n_latents=shape.n_latents,
        k=shape.k,
        batch=batch,
        max_epochs=shape.epochs,
        patience=0,
        device=device.type,
    )


def summary(trained: TrainedDictionary) -> dict[str, Any]:
    facts = trained.facts
    return {
        "val_fvu": trained.history["val_fvu"].min(),
        "live_share": facts["live_share"],
        "dead": facts["dead"],
        "steps": facts["steps"],
    }


# --- rows -----------------------------------------------------------------------------------------------------


def make_jobs(shape: Shape, active: float) -> list[StackedJob]:
    """Sides of one layer after another, as many as are wanted; training rows first, then held-out ones."""
    jobs: list[StackedJob] = []
    truth = Truth(d_model=shape.d_model, directions=6 * shape.d_model, active=active)
    for layer in range(-(-shape.dictionaries // len(SIDES))):
        made = [make_rows(replace(truth, seed=2 * layer + i), shape.rows, shape.held_out) for i in (0, 1)]
        base_nd, change_nd = (np.concatenate([rows.train_nd, rows.held_out_nd]) for rows in made)
        delta_nd = CHANGE * change_nd
        for side, acts_nd in zip(SIDES, (base_nd, base_nd + delta_nd, delta_nd), strict=True):
            name = f"{side}.layer{layer:02d}"
            rows = np.arange(len(acts_nd))
            jobs.append(
                StackedJob(name, acts_nd, rows[: shape.rows], rows[shape.rows :], seed=derive_seed(0, "gpu", name))
            )
    return jobs[: shape.dictionaries]


# --- the device -----------------------------------------------------------------------------------------------


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def seconds_of(work: Callable[[], Any], device: torch.device, repeats: int = 20) -> float:
    """Median seconds of one run, after three that do not count."""
    found: list[float] = []
    for number in range(repeats + 3):
        synchronise(device)
        before = time.perf_counter()
        work()
        synchronise(device)
        if number >= 3:
            found.append(time.perf_counter() - before)
    return statistics.median(found)


def compute_dtype(shape: Shape, device: torch.device) -> torch.dtype:
    precision = precision_of(config(shape, 1, device), shape.d_model, device)
    return torch.bfloat16 if precision == "bf16" else torch.float32


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def rates(shape: Shape, device: torch.device) -> dict[str, float]:
    """What the device does at its best: products of the study's shape at 2,048 rows, and copies of 1 GiB (less on a
    CPU), in operations and bytes a second."""
    s, b, d, n = shape.dictionaries, 2048 if device.type == "cuda" else 64, shape.d_model, shape.n_latents
    dtype = compute_dtype(shape, device)
    x_sbd = torch.randn(s, b, d, device=device).to(dtype)
    encoder_snd = torch.randn(s, n, d, device=device).to(dtype)
    product = seconds_of(lambda: torch.bmm(x_sbd, encoder_snd.mT), device)
    source = torch.zeros(2**28 if device.type == "cuda" else 2**22, device=device)
    target = torch.empty_like(source)
    copy = seconds_of(lambda: target.copy_(source), device)
    return {"operations_per_s": 2 * s * b * d * n / product, "bytes_per_s": 2 * 4 * source.numel() / copy}


def bound_seconds(shape: Shape, batch: int, rate: dict[str, float]) -> float:
    """The least time of all steps if products and memory traffic ran at the measured rates, one after the other."""
    steps = steps_per_epoch(shape.rows, batch) * shape.epochs
    parameters = 2 * shape.dictionaries * shape.n_latents * shape.d_model
    operations = PRODUCTS * parameters * shape.rows * shape.epochs  # a product takes 2·n·d of them for each row
    return operations / rate["operations_per_s"] + steps * PARAMETER_BYTES * parameters / rate["bytes_per_s"]


def step_seconds(jobs: list[StackedJob], cfg: DictionaryConfig, device: torch.device) -> float:
    """One step in the middle of an epoch, recorded where the device records."""
    scalings = [Scaling(np.zeros(job.acts_nd.shape[1], np.float32), 1.0) for job in jobs]
    cfg = cfg.model_copy(update={"max_epochs": 2})
    training = StackedTraining(jobs, scalings, cfg, device)
    stack = training.stack
    assert stack is not None
    steps = training.steps_per_epoch
    training.run_epoch(stack)  # AuxK has those to work on who are dead after an epoch
    if steps < 5:
        return seconds_of_epoch(training, device) / steps
    training.begin_epoch(stack)
    return seconds_of(stack.step, device, repeats=min(20, steps - 3))


def seconds_of_epoch(training: StackedTraining, device: torch.device) -> float:
    assert training.stack is not None
    synchronise(device)
    before = time.perf_counter()
    training.run_epoch(training.stack)
    synchronise(device)
    return time.perf_counter() - before


def decode_seconds(shape: Shape, batch: int, device: torch.device) -> dict[str, float]:
    """Codes → reconstructions: scattered and multiplied densely in one product (what the stack does), or gathered."""
    s, d, n, k = shape.dictionaries, shape.d_model, shape.n_latents, shape.k
    dtype = compute_dtype(shape, device)
    decoder_snd = torch.randn(s, n, d, device=device).to(dtype)
    indices_sbk = torch.rand(s, batch, n, device=device).topk(k, dim=2).indices
    values_sbk = torch.rand(s, batch, k, device=device).to(dtype)

    def dense() -> Tensor:
        codes_sbn = torch.zeros(s, batch, n, dtype=dtype, device=device).scatter_(2, indices_sbk, values_sbk)
        return torch.bmm(codes_sbn, decoder_snd)

    flat_indices = (indices_sbk + n * torch.arange(s, device=device).view(-1, 1, 1)).view(s * batch, k)

    def sparse() -> Tensor:
        weights = values_sbk.view(s * batch, k)
        return F.embedding_bag(flat_indices, decoder_snd.view(s * n, d), per_sample_weights=weights, mode="sum")

    return {"dense_seconds": seconds_of(dense, device), "sparse_seconds": seconds_of(sparse, device)}


# --- beside the CPU path and the peers ------------------------------------------------------------------------


def against_cpu(jobs: list[StackedJob], shape: Shape, batch: int, device: torch.device) -> dict[str, Any]:
    """Held-out FVU after a short training of one layer's dictionaries, here and by the CPU's own path."""
    few = jobs[: len(SIDES)]
    here = train_stacked(
        few,
        config(shape, batch, device),
        device=device,
        checkpoint=None,
        title="short",
    )
    cfg = config(shape, batch, torch.device("cpu"))
    found: dict[str, Any] = {"epochs": shape.epochs}
    for job, mine in zip(few, here, strict=True):
        rows = (job.acts_nd[job.train_rows], job.acts_nd[job.val_rows])
        cpu = train_dictionary(*rows, cfg, seed=job.seed, checkpoint=None, title=f"CPU {job.name}")
        fvu = [one.history["val_fvu"].min() for one in (mine, cpu)]
        found[job.name] = {"fvu": fvu[0], "fvu_cpu": fvu[1], "ratio": fvu[0] / fvu[1]}
    found["largest_gap"] = max(abs(found[job.name]["ratio"] - 1) for job in few)
    return found


def against_peers(
    job: StackedJob, shape: Shape, batch: int, device: torch.device, args: argparse.Namespace
) -> dict[str, Any]:
    """Each peer's step on one dictionary, and antar's stack on as many of its kind as the study has; FVU of all
    after equal samples from the same start, without dead latents, by one evaluator."""
    steps = min(args.peer_steps, shape.rows // batch)
    setting = Setting(
        d_model=shape.d_model, n_latents=shape.n_latents, k=shape.k, batch=batch, steps=steps, device=device.type
    )
    rows_nd = torch.from_numpy(job.acts_nd).to(device)
    found: dict[str, Any] = {"steps": steps, "antar": antar_steps(job, setting, shape.dictionaries, device)}
    for name in args.peers:
        try:
            found[name] = peer_steps(name, setting, rows_nd, job, device)
        except Exception as error:  # a peer that is not installed, or does not run on this device
            found[name] = {"skipped": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"}
            say(f"batch {batch}: {name} skipped ({found[name]['skipped']})")
    return found


def peer_steps(name: str, setting: Setting, rows_nd: Tensor, job: StackedJob, device: torch.device) -> dict[str, Any]:
    """The fastest of a peer's variants: samples/s of its step, and what it has learnt."""
    best: dict[str, Any] = {"samples_per_s": 0.0}
    for variant in driver_class(name).variants:
        driver = driver_class(name)(setting, start_weights(setting), rows_nd, **variant)
        seconds = 0.0
        for at in range(setting.steps):
            x_bd = rows_nd[at * setting.batch : (at + 1) * setting.batch]
            synchronise(device)
            before = time.perf_counter()
            driver.step(x_bd)
            synchronise(device)
            # The first few load libraries and compile: not counted, if there are others.
            seconds += time.perf_counter() - before if at >= min(5, setting.steps - 1) else 0.0
        counted = setting.steps - min(5, setting.steps - 1)
        speed = counted * setting.batch / seconds
        if speed > best["samples_per_s"]:
            best = {
                "samples_per_s": round(speed, 1),
                "options": driver.options,
                "versions": versions(driver.packages),
            }
            best["fvu"] = held_out_fvu(Plain(*(tensor.float().cpu() for tensor in driver.weights())), job, setting.k)
    return best


def antar_steps(job: StackedJob, setting: Setting, dictionaries: int, device: torch.device) -> dict[str, Any]:
    """An epoch over as many rows, in an order of its own, for the FVU; a second one for the time."""
    rows = job.train_rows[: setting.steps * setting.batch]
    jobs = [replace(job, train_rows=rows, seed=number) for number in range(dictionaries)]
    cfg = preset(
        "antar", n_latents=setting.n_latents, k=setting.k, batch=setting.batch, lr=setting.lr, weight_decay=0.0,
        warmup_steps=0, clip=setting.clip, max_epochs=2, device=device.type,
    )  # fmt: skip
    as_they_are = [Scaling(np.zeros(setting.d_model, np.float32), 1.0)] * dictionaries
    training = StackedTraining(jobs, as_they_are, cfg, device)
    stack = training.stack
    assert stack is not None
    for s in range(dictionaries):
        stack.one(stack.weights, s).copy_from(Weights(*(tensor.to(device) for tensor in start_weights(setting))))
    stack.refresh()
    training.run_epoch(stack)
    fvu = held_out_fvu(Plain(*(t.cpu() for t in stack.one(stack.weights, 0).tensors())), job, setting.k)
    stack.pardon()  # nobody is dead, as in the first epoch
    seconds = seconds_of_epoch(training, device)
    samples = dictionaries * setting.steps * setting.batch
    return {"samples_per_s": round(samples / seconds, 1), "fvu": fvu}


def held_out_fvu(weights: Plain, job: StackedJob, k: int) -> float:
    return evaluate(weights, torch.from_numpy(job.acts_nd[job.val_rows]), k)[0]


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_gpu", description=__doc__.split("\n")[0])
    parser.add_argument("--batches", default="256,2048", help="batch sizes, with commas between")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--rows", type=int, default=30_000, help="training rows of each dictionary")
    parser.add_argument("--held-out", type=int, default=10_000)
    parser.add_argument("--dictionaries", type=int, default=9)
    parser.add_argument("--d-model", type=int, default=2048)
    parser.add_argument("--n-latents", type=int, default=8192)
    parser.add_argument("--k", type=int, default=256)
    parser.add_argument("--active", type=float, default=192.0, help="true directions in a row, in the mean")
    parser.add_argument("--cpu-epochs", type=int, default=2, help="length of the training that the CPU path repeats")
    parser.add_argument("--peers", default="saelens,dictionary_learning", help="peers, with commas between; or none")
    parser.add_argument("--peer-steps", type=int, default=100)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--out", type=Path, help=f"default: {RESULT.relative_to(ROOT)}; without a GPU a temporary file"
    )
    args = parser.parse_args(argv)
    args.batches = [int(batch) for batch in args.batches.split(",")]
    args.peers = [] if args.peers == "none" else args.peers.split(",")
    if args.out is None:
        args.out = RESULT if args.device == "cuda" else Path(tempfile.gettempdir()) / "train_gpu_smoke.json"
    return args


if __name__ == "__main__":
    main()
