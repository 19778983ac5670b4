"""Engines map idempotent shards: the pipeline names the work, an engine decides where it runs."""

from antar.engines.base import Engine, ShardTask
from antar.engines.inline import InlineEngine

__all__ = ["Engine", "InlineEngine", "ShardTask"]
