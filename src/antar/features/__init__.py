"""Features: codes and examples, typed contrasts with their nulls, coherence, energy, matching and stability."""

from antar.features.arrays import compare_groups, compare_sides
from antar.features.codes import StoredCodes, codes_shard_path, encode_site, read_codes, write_codes_shard
from antar.features.coherence import Space, coherence_null, measure_coherence
from antar.features.config import ContrastConfig, FeatureConfig
from antar.features.contrasts import defined_contrasts, measure_contrasts, require_defined
from antar.features.energy import shift_energy
from antar.features.examples import contrast_rows, examples_frame, top_examples
from antar.features.facts import features_frame
from antar.features.matching import Matching, match, match_random
from antar.features.multiple import benjamini_hochberg
from antar.features.stability import Stability, effect_reliability, measure_stability, split_half_reliability

__all__ = [
    "ContrastConfig",
    "FeatureConfig",
    "Matching",
    "Space",
    "Stability",
    "StoredCodes",
    "benjamini_hochberg",
    "codes_shard_path",
    "coherence_null",
    "compare_groups",
    "compare_sides",
    "contrast_rows",
    "defined_contrasts",
    "effect_reliability",
    "encode_site",
    "examples_frame",
    "features_frame",
    "match",
    "match_random",
    "measure_coherence",
    "measure_contrasts",
    "measure_stability",
    "read_codes",
    "require_defined",
    "shift_energy",
    "split_half_reliability",
    "top_examples",
    "write_codes_shard",
]
