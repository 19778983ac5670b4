"""Training a stack: many dictionaries of one shape at once, each as `trainer.py` would train it alone.

The order of texts, the recipe, the checks and the early stopping of a dictionary are its own and are those of
`Training`, so that a dictionary comes out the same to rounding, whoever is in the stack with it. One that has
stopped leaves the stack with its best weights.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from antar.core.hashing import code_version, sha256_json
from antar.core.progress import progress, say
from antar.core.seeds import torch_rng
from antar.core.threads import torch_threads
from antar.dictionaries.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from antar.dictionaries.compute import precision_of
from antar.dictionaries.config import DictionaryConfig
from antar.dictionaries.course import Measured
from antar.dictionaries.data import Scaling, epoch_batches, steps_per_epoch
from antar.dictionaries.dead import DeadTracker, reset_rows_, warn_of_a_long_window
from antar.dictionaries.prebias import first_bias
from antar.dictionaries.redraw import residual_rows
from antar.dictionaries.schedule import warmup_steps
from antar.dictionaries.stacked.graphs import Runner
from antar.dictionaries.stacked.jobs import DeviceRows, StackedJob, fit_scalings, job_fingerprints
from antar.dictionaries.stacked.members import LEARNER, Member
from antar.dictionaries.stacked.state import PARTS, StackState, Tools, stack_weights
from antar.dictionaries.stacked.step import Products
from antar.dictionaries.stacked.update import fastest_update, rate_table
from antar.dictionaries.trained import TrainedDictionary
from antar.dictionaries.trainer import VALIDATION_CHUNK, train_dictionary
from antar.dictionaries.weights import NAMES, Weights, initial_weights

CHECKPOINT_SECONDS = 120.0
"""A stack's checkpoint is written at a check when the last one is at least this old, and at the end: nine of the
study's dictionaries are 4.8 GB of weights, best weights and moments, which take longer to write than the epochs in
between take to train. The last one holds the results only."""
CPU = torch.device("cpu")


def train_stacked(
    jobs: Sequence[StackedJob],
    cfg: DictionaryConfig,
    *,
    device: torch.device,
    checkpoint: Path | None,
    title: str,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> list[TrainedDictionary]:
    """Train the dictionaries of `jobs`, which are one group of `group_by_shape`, at once; results in their order.

    Each is what `train_dictionary` gives for its rows and seed, up to rounding; a job without variance gets its
    constant dictionary. With a `checkpoint` folder a killed training goes on from its last checkpoint, to the same
    bits; where some of its jobs are no longer wanted the others go on, to rounding, since the size of a stack may
    change the last bits of its products; the caller removes it. Raises UserError as
    `train_dictionary` does, naming the job.
    """
    scalings = fit_scalings(jobs, cfg)
    varied = [number for number, scaling in enumerate(scalings) if scaling.scale > 0]
    found = {n: _constant(jobs[n], cfg) for n in range(len(jobs)) if n not in varied}
    if varied:
        some = [jobs[n] for n in varied]
        with torch_threads(cfg.threads), _full_fp32():
            training = StackedTraining(some, [scalings[n] for n in varied], cfg, device)
            folder = _Folder(checkpoint, training.fingerprint(), checkpoint_seconds)
            _run(training, folder, title, job_fingerprints(some) if checkpoint else [])
            found |= dict(zip(varied, training.results(), strict=True))
    return [found[number] for number in range(len(jobs))]


def _run(training: StackedTraining, folder: _Folder, title: str, fingerprints: list[str]) -> None:
    cfg = training.cfg
    saved = folder.read()
    if saved:
        training.restore(saved, fingerprints)
    with progress(title, cfg.max_epochs, "epochs") as bar:
        bar.advance(training.epoch)
        while training.stack is not None:
            training.run_epoch(training.stack)
            bar.advance()
            if training.epoch % cfg.check_every_epochs == 0 or training.epoch == cfg.max_epochs:
                bar.note(training.check(training.stack))
                folder.write(training, fingerprints)


class StackedTraining:
    """The state of one stack's training, and what an epoch and a check do to it."""

    def __init__(
        self, jobs: Sequence[StackedJob], scalings: Sequence[Scaling], cfg: DictionaryConfig, device: torch.device
    ) -> None:
        shapes = {(job.acts_nd.shape[1], steps_per_epoch(len(job.train_rows), cfg.batch)) for job in jobs}
        if len(shapes) != 1:
            raise ValueError(f"a stack takes jobs of one shape (see group_by_shape), found {sorted(shapes)}")
        ((d_model, self.steps_per_epoch),) = shapes
        self.cfg, self.epoch = cfg, 0
        self.planned = self.steps_per_epoch * cfg.max_epochs
        self.window_steps = DeadTracker(cfg, self.steps_per_epoch, CPU).window_steps
        self.precision = precision_of(cfg, d_model, device)
        low = torch.bfloat16 if self.precision == "bf16" else torch.float32
        self.rows = DeviceRows(jobs, scalings, device)
        variances = [self._variance(position) for position in range(len(jobs))]
        self.members = [
            Member(cfg, scaling, variance, job.name, job=job)
            for job, scaling, variance in zip(jobs, scalings, variances, strict=True)
        ]
        self.tools = Tools(
            Products(low, device),
            fastest_update(cfg, d_model, low, device),
            Runner.on(device),
            rate_table(cfg, self.planned, device),
        )
        with ThreadPoolExecutor() as pool:  # each draws from a generator of its own
            drawn = list(pool.map(lambda job: initial_weights(cfg, d_model, job.seed), jobs))
        start = stack_weights(drawn, device)
        for position, job in enumerate(jobs):
            start.decoder_bias_d[position].copy_(first_bias(self.rows.training(position), cfg, job.seed))
        zeros = start.map(torch.zeros_like)
        parts = {"weights": start, "best": start.clone(), "exp_avg": zeros, "exp_avg_sq": zeros.clone()}
        self.stack: StackState | None = self._stack(parts, range(len(jobs)))
        warn_of_a_long_window(cfg, self.window_steps, self.planned)

    def _stack(self, parts: dict[str, Weights], positions: Sequence[int]) -> StackState:
        return StackState(parts, positions, self.rows, self.cfg, self.steps_per_epoch, self.tools)

    def _variance(self, position: int) -> float:
        x_nd = torch.cat(self.rows.validation(position, VALIDATION_CHUNK)).double()
        return float((x_nd - x_nd.mean(0)).square().mean())

    # -- an epoch -----------------------------------------------------------------------------------------------

    def run_epoch(self, stack: StackState) -> None:
        members = [self.members[position] for position in stack.positions]
        step = members[0].at.step
        self.begin_epoch(stack)
        for batch_at in range(self.steps_per_epoch):
            stack.step()
            step += 1
            for s, member in enumerate(members):
                member.at.step = step
                member.rows_in_window += stack.batch_size(s, batch_at)
            # From here on the host may look at the device, at the end of a window or at a reset.
            if step % self.window_steps == 0:
                stack.end_window([member.rows_in_window for member in members])
                self._begin_window(members)
            if self.cfg.reset_every_steps and step % self.cfg.reset_every_steps == 0:
                self._reset(stack, members)
        self.epoch += 1
        for member in members:
            member.at.epoch = self.epoch

    def begin_epoch(self, stack: StackState) -> None:
        members = [self.members[position] for position in stack.positions]
        cuts = [(len(m.job.train_rows), self.cfg.batch, m.job.seed, self.epoch, CPU) for m in members]
        stack.begin_epoch([epoch_batches(*cut) for cut in cuts], members[0].at.step)

    def _begin_window(self, members: Sequence[Member]) -> None:
        for member in members:
            member.rows_in_window = 0

    @torch.no_grad()
    def _reset(self, stack: StackState, members: Sequence[Member]) -> None:
        """Re-draw each dictionary's dead latents from its own stream, and clear their moments."""
        for s, member in enumerate(members):
            dead_m = stack.dead_now(s)
            generator = torch_rng(member.job.seed, "dictionary", "reset", member.at.step)
            weights, first, second = (stack.one(one, s) for one in (stack.weights, *stack.moments))
            poor = None
            if self.cfg.reset_to == "residual" and len(dead_m):
                reconstruct = partial(LEARNER.reconstruct, weights, k=self.cfg.k, threshold=0.0)
                poor = residual_rows(self.rows.training(stack.positions[s]), reconstruct, len(dead_m), generator)
            reset_rows_(weights, (first, second), dead_m, self.cfg, generator, poor)
            member.at.resets += len(dead_m)
        stack.pardon()
        self._begin_window(members)

    # -- a check ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def check(self, stack: StackState) -> str:
        """Measure each dictionary's validation split, keep best weights, append history rows, let go who is done.
        Returns a short note on how they are."""
        live_s = (stack.fired_epoch_sn > 0).float().mean(1)
        dead_s = stack.dead_sn.sum(1)
        val_s = torch.stack([self._squares(stack, s) for s in range(len(stack))])
        numbers = torch.stack([val_s, stack.errors_s, live_s.double(), dead_s.double()], dim=1).tolist()
        steps = self.steps_per_epoch * (self.epoch - self._epoch_of_last_check(stack))
        for s, (squares, errors, live_share, dead) in enumerate(numbers):
            member = self.members[stack.positions[s]]
            val = squares / (len(member.job.val_rows) * stack.d_model)
            if member.check(Measured(val, errors / steps, live_share, int(dead))):
                for best, now in zip(stack.best.tensors(), stack.weights.tensors(), strict=True):
                    best[s].copy_(now[s])
        stack.errors_s.zero_()
        self._let_go(stack)
        errors = [self.members[position].history[-1]["val_mse"] for position in stack.positions]
        return f"val MSE {min(errors):.3g} to {max(errors):.3g}, {len(stack)} in training"

    def _epoch_of_last_check(self, stack: StackState) -> int:
        history = self.members[stack.positions[0]].history
        return history[-1]["epoch"] if history else 0

    def _squares(self, stack: StackState, s: int) -> torch.Tensor:
        """Σ (x − x̂)² over a dictionary's validation rows, by the very function of the single trainer, in fp32."""
        weights, squares = stack.one(stack.weights, s), torch.zeros((), dtype=torch.float64, device=stack.device)
        for x_bd in self.rows.validation(stack.positions[s], VALIDATION_CHUNK):
            squares += (x_bd - LEARNER.reconstruct(weights, x_bd, self.cfg.k, 0.0)).double().square().sum()
        return squares

    def _let_go(self, stack: StackState) -> None:
        """Take those that are done out of the stack, with their best weights."""
        on = [s for s, position in enumerate(stack.positions) if not self.members[position].finished]
        for s, position in enumerate(stack.positions):
            if s not in on:
                self.members[position].best = stack.one(stack.best, s).map(lambda tensor: tensor.cpu().clone())
        if len(on) < len(stack):
            self.stack = stack.keep(on) if on else None

    # -- checkpoint and result ----------------------------------------------------------------------------------

    def fingerprint(self) -> str:
        """Of what all jobs share; what is a job's own is in `job_fingerprints`."""
        return sha256_json(
            {
                "config": self.cfg.training_fields(),
                "compute": self.precision,
                "device": self.rows.device.type,
                "threads": self.cfg.threads or torch.get_num_threads(),
                "torch": torch.__version__,
                "code": code_version("dictionaries"),
            }
        )

    def checkpoint(self, fingerprints: list[str]) -> Checkpoint:
        """The stack as it is, and the best weights of those that have left it (`done.*`, in the jobs' order)."""
        tensors = {} if self.stack is None else self.stack.tensors()
        done = [member.best for member in self.members if member.best is not None]
        if done:
            stacked = stack_weights(done, CPU).tensors()
            tensors |= {f"done.{name}": t.numpy() for name, t in zip(NAMES, stacked, strict=True)}
        members = [member.state() for member in self.members]
        return Checkpoint(tensors, {"jobs": fingerprints, "members": members, "epoch": self.epoch})

    def restore(self, saved: Checkpoint, fingerprints: list[str]) -> None:
        """Take up a checkpoint of these jobs, or of these and others. With one that it lacks, start anew."""
        known: list[str] = saved.state["jobs"]
        if not set(fingerprints) <= set(known):
            say("  the checkpoint belongs to other dictionaries; this training starts anew")
            return
        members = saved.state["members"]
        places = [known.index(one) for one in fingerprints]
        self.epoch = saved.state["epoch"]
        for member, place in zip(self.members, places, strict=True):
            best = None
            if members[place]["done"]:
                row = sum(one["done"] for one in members[:place])
                best = Weights(*(torch.from_numpy(saved.tensors[f"done.{n}"][row].copy()) for n in NAMES))
            member.restore(members[place], best)
        going = [position for position, place in enumerate(places) if not members[place]["done"]]
        rows = [sum(not one["done"] for one in members[: places[position]]) for position in going]
        self.stack = self._restored(saved, going, rows) if going else None

    def _restored(self, saved: Checkpoint, positions: list[int], rows: list[int]) -> StackState:
        def read(name: str) -> torch.Tensor:
            # Cloned: torch owns and aligns the memory, as in a training that was never stopped.
            return torch.from_numpy(saved.tensors[name][rows]).clone().to(self.rows.device)

        parts = {part: Weights(*(read(f"{part}.{name}") for name in NAMES)) for part in PARTS}
        stack = self._stack(parts, positions)
        stack.fired_window_sn.copy_(read("fired_window"))
        stack.call_dead(read("dead").bool())
        return stack

    def results(self) -> list[TrainedDictionary]:
        facts = {
            "warmup_steps": warmup_steps(self.cfg, self.planned),
            "dead_window_steps": self.window_steps,
            "path": "stacked",
            "compute": self.precision,
        }
        return [member.result(self.rows.device, facts) for member in self.members]


class _Folder:
    """Where a stack's checkpoint lies, and when it is time for the next."""

    def __init__(self, folder: Path | None, fingerprint: str, every_seconds: float) -> None:
        self._folder, self._fingerprint, self._every = folder, fingerprint, every_seconds
        self._written = time.monotonic()

    def read(self) -> Checkpoint | None:
        return None if self._folder is None else read_checkpoint(self._folder, self._fingerprint)

    def write(self, training: StackedTraining, fingerprints: list[str]) -> None:
        due = training.stack is None or time.monotonic() - self._written >= self._every
        if self._folder is not None and due:
            write_checkpoint(self._folder, training.checkpoint(fingerprints), self._fingerprint)
            self._written = time.monotonic()


def _constant(job: StackedJob, cfg: DictionaryConfig) -> TrainedDictionary:
    """The single trainer's dictionary of rows without variance: it trains nothing."""
    rows = (job.acts_nd[job.train_rows], job.acts_nd[job.val_rows])
    return train_dictionary(*rows, cfg, seed=job.seed, checkpoint=None, title=job.name, floor=job.floor)


@contextmanager
def _full_fp32() -> Generator[None]:
    """No TF32 in fp32 products."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
