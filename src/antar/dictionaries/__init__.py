"""Sparse dictionaries of activations: train, evaluate, encode, keep.

The home of everything between activations and codes. `train_dictionary` makes a dictionary, `evaluate` says what it
is worth beside its baselines, `load_dictionary` opens one; `geometry` measures the activations themselves.
"""

from antar.core.sparse import SparseCodes
from antar.dictionaries.batchtopk import BatchTopK
from antar.dictionaries.checkpoint import remove_checkpoint
from antar.dictionaries.config import DictionaryConfig, PublishedFault, preset, published_faults
from antar.dictionaries.crosscoder import Crosscoder
from antar.dictionaries.evaluate import evaluate
from antar.dictionaries.geometry import Geometry, geometry
from antar.dictionaries.kinds import Dictionary, load_dictionary
from antar.dictionaries.latent_scaling import latent_scaling, scaling_summary
from antar.dictionaries.topk import TopK
from antar.dictionaries.trainer import TrainedDictionary, train_dictionary

__all__ = [
    "BatchTopK",
    "Crosscoder",
    "Dictionary",
    "DictionaryConfig",
    "Geometry",
    "PublishedFault",
    "SparseCodes",
    "TopK",
    "TrainedDictionary",
    "evaluate",
    "geometry",
    "latent_scaling",
    "load_dictionary",
    "preset",
    "published_faults",
    "remove_checkpoint",
    "scaling_summary",
    "train_dictionary",
]
