"""What a stack trains: its jobs, which of them fit into one stack, and their rows, held once on the device.

A job names an array of raw activations and the rows of it that it trains and validates on. Jobs that read one site
(its seeds and folds) pass the same array, which goes to the device once; a job's centre and scale are applied to its
batches as they are gathered.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from antar.core.hashing import sha256_json
from antar.dictionaries.config import DictionaryConfig
from antar.dictionaries.data import Scaling, check_rows, fit_scaling, steps_per_epoch

MEMORY_SHARE = 0.7
"""Share of a device's free memory that a stack may plan for."""
PARAMETER_BYTES = 2 * 4 * 4 + 2 * 2
"""Of each parameter: weight, best weight and two moments in fp32, twice, since a stack that shrinks is copied; the
products' copy and a gradient in bf16."""
ACTIVATION_BYTES = 24
"""Of each (text of a batch, latent): pre-activations, codes and their gradients in both precisions, and slack."""


@dataclass(frozen=True, eq=False)
class StackedJob:
    """name: for messages; acts_nd: raw `[rows, d_model]`, the same object for jobs that read one site; train_rows and
    val_rows: indices into it; floor: as in `train_dictionary`."""

    name: str
    acts_nd: np.ndarray
    train_rows: np.ndarray
    val_rows: np.ndarray
    seed: int
    floor: float = 0.0

    def splits(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the rows for training and validation."""
        return self.train_rows, self.val_rows


def group_by_shape(
    jobs: Sequence[StackedJob], cfg: DictionaryConfig, largest: int | None = None
) -> list[tuple[str, list[int]]]:
    """Stacks as (name, positions of their jobs), in the order of the jobs; none has more than `largest` jobs.

    Jobs go together when they have one width and take equally many steps an epoch. Folds need not have equally many
    rows: batches are padded to the stack's largest, by a row at most where the counts are near each other.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for position, job in enumerate(jobs):
        steps = steps_per_epoch(len(job.train_rows), cfg.batch)
        groups.setdefault((job.acts_nd.shape[1], steps), []).append(position)
    stacks: list[tuple[str, list[int]]] = []
    for (d_model, steps), members in groups.items():
        parts = -(-len(members) // (largest or len(members)))
        for part in range(parts):
            name = f"d{d_model}.steps{steps}" + (f".part{part}" if parts > 1 else "")
            stacks.append((name, members[part::parts]))
    return stacks


def largest_stack(jobs: Sequence[StackedJob], cfg: DictionaryConfig, device: torch.device) -> int | None:
    """How many dictionaries fit on a CUDA device beside the rows of all jobs; None on a CPU: as many as there are."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return fitting(jobs, cfg, int(free * MEMORY_SHARE))


def fitting(jobs: Sequence[StackedJob], cfg: DictionaryConfig, memory: int) -> int:
    """How many dictionaries fit into `memory` bytes; at least one, which then may not."""
    rows = sum(acts_nd.size for acts_nd in {id(job.acts_nd): job.acts_nd for job in jobs}.values())
    parameters = 2 * cfg.n_latents * max(job.acts_nd.shape[1] for job in jobs)
    one = parameters * PARAMETER_BYTES + cfg.batch * cfg.n_latents * ACTIVATION_BYTES
    return max(1, (memory - 4 * rows) // one)


def fit_scalings(jobs: Sequence[StackedJob], cfg: DictionaryConfig) -> list[Scaling]:
    """Check each job's rows and fit its centre and scale, as `train_dictionary` does. numpy leaves the interpreter's
    lock, so jobs go side by side; jobs on the same rows share the work."""
    distinct: dict[tuple[int, bytes, float], StackedJob] = {}
    keys = [(id(job.acts_nd), _digest(job.train_rows) + _digest(job.val_rows), job.floor) for job in jobs]
    for key, job in zip(keys, jobs, strict=True):
        distinct.setdefault(key, job)

    def fit(job: StackedJob) -> Scaling:
        train_nd = job.acts_nd[job.train_rows]
        check_rows(train_nd, f"{job.name}: training")
        check_rows(job.acts_nd[job.val_rows], f"{job.name}: validation", train_nd.shape[1])
        return fit_scaling(train_nd, cfg.normalise, job.floor)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        found = dict(zip(distinct, pool.map(fit, distinct.values()), strict=True))
    return [found[key] for key in keys]


def job_fingerprints(jobs: Sequence[StackedJob]) -> list[str]:
    """Of each job, over its rows and seed. What is common to a stack's jobs is in the stack's own fingerprint."""
    arrays = {id(job.acts_nd): job.acts_nd for job in jobs}
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        digests = dict(zip(arrays, pool.map(_digest, arrays.values()), strict=True))
    return [
        sha256_json(
            {
                "data": digests[id(job.acts_nd)].hex(),
                "shape": list(job.acts_nd.shape),
                "rows": [_digest(rows).hex() for rows in (job.train_rows, job.val_rows)],
                "seed": job.seed,
            }
        )
        for job in jobs
    ]


def _digest(array: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(array).data).digest()


class DeviceRows:
    """The distinct arrays of some jobs, one after another in one tensor, and each job's rows in it."""

    def __init__(self, jobs: Sequence[StackedJob], scalings: Sequence[Scaling], device: torch.device) -> None:
        self.device = device
        arrays = {id(job.acts_nd): job.acts_nd for job in jobs}
        lengths = [len(acts_nd) for acts_nd in arrays.values()]
        starts = dict(zip(arrays, np.cumsum([0, *lengths[:-1]]).tolist(), strict=True))
        self.raw_nd = torch.empty(sum(lengths), jobs[0].acts_nd.shape[1], device=device)
        for key, acts_nd in arrays.items():
            own_nd = self.raw_nd[starts[key] : starts[key] + len(acts_nd)]
            own_nd.copy_(torch.from_numpy(np.ascontiguousarray(acts_nd, dtype=np.float32)))
        # On the host: batches are drawn there. int64, as torch's gathers want.
        self.train = [starts[id(job.acts_nd)] + torch.from_numpy(job.train_rows.astype(np.int64)) for job in jobs]
        self._val = [starts[id(job.acts_nd)] + torch.from_numpy(job.val_rows.astype(np.int64)) for job in jobs]
        self.centre_sd = torch.from_numpy(np.stack([scaling.centre_d for scaling in scalings])).to(device)
        # Divided on the host in fp64, then fp32, as `Scaling.apply` does.
        factors = np.array([1.0 / scaling.scale for scaling in scalings]).astype(np.float32)
        self.factor_s = torch.from_numpy(factors).to(device)

    def training(self, position: int) -> Tensor:
        """Normalised training rows of a job, made anew each time: for its start and its resets."""
        rows_n = self.train[position].to(self.device)
        return (self.raw_nd.index_select(0, rows_n) - self.centre_sd[position]) * self.factor_s[position]

    def validation(self, position: int, chunk: int) -> list[Tensor]:
        """Normalised validation rows of a job, in chunks: made anew each time, since they are seldom read."""
        centre_d, factor = self.centre_sd[position], self.factor_s[position]
        chunks = self._val[position].split(chunk)
        return [(self.raw_nd.index_select(0, rows.to(self.device)) - centre_d) * factor for rows in chunks]
