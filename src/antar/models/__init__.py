"""Checkpoints and their activations: load a pair, tokenise once, read every side's layers, export."""

from antar.models.config import ExtractConfig, ModelConfig
from antar.models.export import export_npz
from antar.models.extract import SideTask
from antar.models.pair import PairFacts, check_pair, load_model, load_tokenizer
from antar.models.read import SiteRows, read_site
from antar.models.stored import site_folder
from antar.models.template import ChatTemplate, check_template
from antar.models.token_rows import Block, TokenRows, TokenSite
from antar.models.tokens import TokenTask, n_shards

__all__ = [
    "Block",
    "ChatTemplate",
    "ExtractConfig",
    "ModelConfig",
    "PairFacts",
    "SideTask",
    "SiteRows",
    "TokenRows",
    "TokenSite",
    "TokenTask",
    "check_pair",
    "check_template",
    "export_npz",
    "load_model",
    "load_tokenizer",
    "n_shards",
    "read_site",
    "site_folder",
]
