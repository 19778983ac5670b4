"""Features: codes and examples, typed contrasts with their nulls, coherence, energy, matching and stability."""

from antar.features.codes import codes_shard_path, encode_site, read_codes, write_codes_shard
from antar.features.config import ContrastConfig, FeatureConfig
from antar.features.contrasts import defined_contrasts, measure_contrasts, require_defined
from antar.features.examples import contrast_rows, examples_frame, features_frame, top_examples

__all__ = [
    "ContrastConfig",
    "FeatureConfig",
    "codes_shard_path",
    "contrast_rows",
    "defined_contrasts",
    "encode_site",
    "examples_frame",
    "features_frame",
    "measure_contrasts",
    "read_codes",
    "require_defined",
    "top_examples",
    "write_codes_shard",
]
