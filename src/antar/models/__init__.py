"""Checkpoints and their activations: load a pair, tokenise once, read every side's layers, export."""

from antar.models.config import ExtractConfig, ModelConfig
from antar.models.export import export_npz
from antar.models.extract import SideTask
from antar.models.pair import PairFacts, check_pair, load_model, load_tokenizer
from antar.models.precision import PrecisionTask, delta_error, sample_rows
from antar.models.precision import warning as precision_warning
from antar.models.read import SiteRows, read_site
from antar.models.stored import forced_budget, site_folder
from antar.models.template import ChatTemplate, check_template
from antar.models.token_rows import Block, TokenRows, TokenSite
from antar.models.tokens import TokenTask, n_shards

__all__ = [
    "Block",
    "ChatTemplate",
    "ExtractConfig",
    "ModelConfig",
    "PairFacts",
    "PrecisionTask",
    "SideTask",
    "SiteRows",
    "TokenRows",
    "TokenSite",
    "TokenTask",
    "check_pair",
    "check_template",
    "delta_error",
    "export_npz",
    "forced_budget",
    "load_model",
    "load_tokenizer",
    "n_shards",
    "precision_warning",
    "read_site",
    "sample_rows",
    "site_folder",
]
