"""The names of things in a run: sides, sites and dictionary ids, and the folders that they live in.

Sides are `base`, `chat`, `delta` (chat minus base), `joint` (both: base's columns, then chat's), `sham:<name>` (a
sham checkpoint's activations), `delta:<name>` (that sham minus base: the null that a delta is read against) and
`untrained` (base's architecture with random weights: the null for what a text's surface alone shows). In folder names
the colon becomes a hyphen, because not every file system takes a colon.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from antar.core.errors import UserError

_SIDE = re.compile(r"(base|chat|joint|delta|untrained|(sham|delta):[a-z0-9]+)")
_DICTIONARY = re.compile(
    r"(?P<side>[a-z]+(:[a-z0-9]+)?)\.layer(?P<layer>\d{2,})"
    r"(\.(?P<kind>crosscoder|batchtopk|pca|random|neurons|imported_[a-z0-9]+))?(\.seed(?P<seed>\d+))?(\.fold(?P<fold>\d+))?"
)

BASELINE_KINDS = ("pca", "random", "neurons")
IMPORTED = "imported_"
"""What the kind of a dictionary that others trained begins with; the study file's name for it follows."""
UNTRAINED = "untrained"


@dataclass(frozen=True, order=True)
class Site:
    """Where activations are read: side and 0-based block index (the output of `layers[layer]`)."""

    side: str
    layer: int

    def __post_init__(self) -> None:
        if not _SIDE.fullmatch(self.side):
            raise UserError(
                "side: expected base, chat, delta, joint, untrained, sham:<name> or delta:<name>, "
                f"found {self.side!r}"
            )

    def __str__(self) -> str:
        return f"{self.side}.layer{self.layer:02d}"

    @property
    def folder(self) -> str:
        return str(self).replace(":", "-")

    @property
    def difference(self) -> tuple[str, str] | None:
        """For a delta side: (minuend, subtrahend). None for sides whose activations are stored."""
        if self.side == "delta":
            return ("chat", "base")
        if self.side.startswith("delta:"):
            return (f"sham:{self.side.removeprefix('delta:')}", "base")
        return None

    @property
    def stored(self) -> tuple[str, ...]:
        """The sides whose stored activations this one is made of."""
        return ("base", "chat") if self.side == "joint" else self.difference or (self.side,)


@dataclass(frozen=True, order=True)
class DictionaryId:
    """`<trained on>.layerNN[.kind][.seedN][.foldN]`; kind None is TopK, seed and fold None are the study's own.

    One that others trained has the kind `imported_<name>`, whatever selects its latents.
    """

    trained_on: str
    layer: int
    kind: str | None = None
    seed: int | None = None
    fold: int | None = None

    def __str__(self) -> str:
        parts = [f"{self.trained_on}.layer{self.layer:02d}"]
        parts += [self.kind] if self.kind else []
        parts += [f"seed{self.seed}"] if self.seed is not None else []
        parts += [f"fold{self.fold}"] if self.fold is not None else []
        return ".".join(parts)

    @property
    def folder(self) -> str:
        return str(self).replace(":", "-")

    @property
    def site(self) -> Site:
        return Site(self.trained_on, self.layer)

    @property
    def of(self) -> DictionaryId:
        """The study's own dictionary that a replica is one of."""
        return DictionaryId(self.trained_on, self.layer, self.kind)

    @property
    def is_joint_rows(self) -> bool:
        """Trained on both sides' rows, base's before chat's: it has codes on each side and none on `joint`."""
        return self.trained_on == "joint" and self.kind != "crosscoder"

    @property
    def is_baseline(self) -> bool:
        """PCA, random directions or raw neurons: a null for the dictionaries that are trained."""
        return self.kind in BASELINE_KINDS

    @property
    def is_imported(self) -> bool:
        """Trained by others and read from a folder that the study file names."""
        return self.kind is not None and self.kind.startswith(IMPORTED)

    @property
    def is_null(self) -> bool:
        """A baseline, or trained on a sham's delta or on a model of random weights: its features are no findings."""
        return self.is_baseline or ":" in self.trained_on or self.trained_on == UNTRAINED

    @property
    def is_replica(self) -> bool:
        """Another seed or fold of a dictionary of the study: used for stability, not for findings."""
        return self.seed is not None or self.fold is not None

    @classmethod
    def parse(cls, text: str) -> DictionaryId:
        match = _DICTIONARY.fullmatch(text)
        if match is None:
            raise UserError(f"dictionary id: expected e.g. base.layer06 or delta.layer18.seed2, found {text!r}")
        seed, fold = match["seed"], match["fold"]
        return cls(
            match["side"],
            int(match["layer"]),
            match["kind"],
            None if seed is None else int(seed),
            None if fold is None else int(fold),
        )


def feature_id(dictionary: DictionaryId | str, latent: int) -> str:
    return f"{dictionary}/{latent}"


def codes_folder(dictionary: DictionaryId, side: str) -> str:
    return f"{dictionary.folder}@{side.replace(':', '-')}"
