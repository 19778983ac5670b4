"""Shams of a real pair: base trained on with nothing to learn until it has drifted as far as the chat model has.

`config.py` says what a study file may set, `drift.py` measures, `train.py` trains until every layer has drifted far
enough, `scale.py` brings each layer back to its target, and `make.py` puts them together.
"""

from antar.organisms.sham.config import MadeSham, ShamConfig
from antar.organisms.sham.drift import Probe
from antar.organisms.sham.make import SHAM_FILE, Pair, make_sham

__all__ = ["SHAM_FILE", "MadeSham", "Pair", "Probe", "ShamConfig", "make_sham"]
