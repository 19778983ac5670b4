"""What a task asks of a cluster, as it stands in a study file. The inline engine reads none of it."""

from __future__ import annotations

from pydantic import Field

from antar.core.config import Config


class TaskConfig(Config):
    """What one task of a stage asks for."""

    gpus: float | None = Field(default=None, ge=0, le=1)
    """The share of a GPU that one task asks for; 0.25 puts four tasks on each. Null: a whole one where the cluster
    has GPUs and the stage's own `device` is not `cpu`. Never more than one: nothing is split over GPUs."""
    cpus: float | None = Field(default=None, ge=0)
    """The cores that are kept free for one task. Null: 1 beside a GPU, else as many as the stage has `threads`."""


class EngineConfig(Config):
    """What the tasks of each stage ask for under `--engine ray`. It changes where shards are made, never what is in
    them."""

    extract: TaskConfig = TaskConfig()
    """Tokens and activations: a task is one shard of one checkpoint; a worker keeps the checkpoint it has loaded."""
    train: TaskConfig = TaskConfig()
    """Dictionaries: a task is one dictionary, or on GPUs one stack of them for each worker."""
    features: TaskConfig = TaskConfig(gpus=0)
    """Codes: a task is one shard of one side under one dictionary. Encoding is a CPU's work."""
