"""Engines map idempotent shards: the pipeline names the work, an engine decides where it runs."""

from antar.engines.base import Engine, Job, Needs, Room, ShardFailed, ShardTask
from antar.engines.choose import ENGINES, open_engine
from antar.engines.config import EngineConfig, TaskConfig
from antar.engines.inline import InlineEngine

__all__ = [
    "ENGINES",
    "Engine",
    "EngineConfig",
    "InlineEngine",
    "Job",
    "Needs",
    "Room",
    "ShardFailed",
    "ShardTask",
    "TaskConfig",
    "open_engine",
]
