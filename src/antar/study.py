"""The study file: one YAML file that composes the rooms' config models.

Every default is the published study's (PUBLISHED.md), so a study file states only what it does differently. An
unknown key, a wrong type or an impossible combination is one line that says where and what to do.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from antar.core.config import Config
from antar.core.errors import UserError
from antar.corpora.config import CorpusConfig
from antar.criteria import CriteriaConfig
from antar.dictionaries.config import DictionaryConfig, preset
from antar.dictionaries.sweep import SweepConfig, variant_config
from antar.engines import EngineConfig
from antar.features.config import ContrastConfig, CrosscheckConfig, FeatureConfig
from antar.interpret.config import InterpretConfig
from antar.models.config import ExtractConfig, ModelConfig
from antar.organisms.config import TinyConfig, TruthRule
from antar.organisms.sham.config import MadeSham, ShamConfig
from antar.organisms.smollm2 import SmolConfig
from antar.people.config import PeopleConfig

Organism = Annotated[TinyConfig | SmolConfig, Field(discriminator="kind")]


def _given_or_made(sham: Any) -> str:
    return "made" if isinstance(sham, MadeSham) or (isinstance(sham, dict) and "make" in sham) else "given"


Sham = Annotated[
    Annotated[ModelConfig, Tag("given")] | Annotated[MadeSham, Tag("made")], Discriminator(_given_or_made)
]


class RandomWeights(Config):
    """A model that was never trained: base's architecture and tokenizer, weights as its own initialisation draws
    them."""

    seed: int = Field(0, ge=0)
    """The seed of the weights."""


class ModelsConfig(Config):
    """The checkpoints that are compared: a pair given by path or hub name, or an organism that antar makes."""

    base: ModelConfig | None = None
    """The checkpoint before alignment."""
    chat: ModelConfig | None = None
    """The checkpoint after it."""
    shams: dict[str, Sham] = Field(default_factory=dict)
    """Checkpoints trained on from base with nothing to learn, by a short name: the null for every shift. Given by
    `path`, or made by antar: `{make: {}}`."""
    organism: Organism | None = None
    """A pair (and its shams) with a planted difference, made in the run folder."""
    random_weights: RandomWeights | None = None
    """A null for what a text's surface alone shows: the culture contrast on a model of random weights, with
    dictionaries of its own. `true`, or `{seed: 0}`. Off, since it costs an extraction and a dictionary a layer."""
    sham_is: str = "base trained on with nothing to learn"
    """What the shams are, in the report's words."""
    names: dict[str, str] = Field(default_factory=dict)
    """What the report calls each side; `base` and `chat` unless said."""

    @field_validator("random_weights", mode="before")
    @classmethod
    def _switch(cls, given: Any) -> Any:
        return {True: {}, False: None}[given] if isinstance(given, bool) else given

    @model_validator(mode="after")
    def _pair_or_organism(self) -> ModelsConfig:
        if self.organism is None and (self.base is None or self.chat is None):
            raise ValueError("give both base and chat, or an organism")
        if self.organism is not None and (self.base is not None or self.chat is not None or self.shams):
            raise ValueError("an organism brings its own base, chat and shams: leave those out")
        if set(self.names) - {"base", "chat"}:
            raise ValueError(f"names: expected base and chat, found {', '.join(sorted(self.names))}")
        for name in self.shams:
            if not re.fullmatch(r"[a-z0-9]+", name):
                raise ValueError(f"sham name {name!r}: use lower-case letters and digits only")
        return self

    @property
    def given_shams(self) -> dict[str, ModelConfig]:
        """Those that are there already, by name."""
        return {name: sham for name, sham in sorted(self.shams.items()) if isinstance(sham, ModelConfig)}

    @property
    def made_shams(self) -> dict[str, ShamConfig]:
        """Those that antar makes, by name."""
        return {name: sham.make for name, sham in sorted(self.shams.items()) if isinstance(sham, MadeSham)}


class Study(Config):
    """One study: models, corpus, layers, dictionaries, interpretation, criteria."""

    study: str
    """The study's short name, and the name of its run folder."""
    question: str = ""
    """What the study asks, in a sentence; the report opens with it."""
    seed: int = 42
    """The root of every random stream."""
    models: ModelsConfig
    corpus: CorpusConfig
    extract: ExtractConfig = ExtractConfig()
    dictionaries: DictionaryConfig = Field(default_factory=lambda: preset("antar"))
    engine: EngineConfig = EngineConfig()
    sweep: SweepConfig = Field(default_factory=SweepConfig)
    features: FeatureConfig = FeatureConfig()
    contrasts: ContrastConfig = ContrastConfig()
    crosscheck: CrosscheckConfig = CrosscheckConfig()
    interpret: InterpretConfig = InterpretConfig()
    people: PeopleConfig = PeopleConfig()
    criteria: CriteriaConfig = CriteriaConfig()
    truth: TruthRule | None = None
    """How changed concepts are flagged on an organism, fixed before the run."""

    @field_validator("study")
    @classmethod
    def _name_is_a_folder_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", name):
            raise ValueError("use at most 100 letters, digits, - and _ (it names the run folder)")
        return name

    @model_validator(mode="after")
    def _truth_needs_a_sham(self) -> Study:
        if self.truth is not None and not self.sham_names:
            raise ValueError("truth: its threshold comes from a sham, and there is none; add one or leave truth out")
        return self

    @model_validator(mode="after")
    def _shams_have_texts_to_learn(self) -> Study:
        for name, made in self.models.made_shams.items():
            if made.texts is None and self.corpus.split.controls == "heldout":
                raise ValueError(
                    f"models.shams.{name}: corpus.split.controls is `heldout`, so no control text is left to train a "
                    "sham on; name neutral files or sources in `texts:` under its `make`, or set controls to `same`"
                )
        return self

    @model_validator(mode="after")
    def _tokens_do_not_stack(self) -> Study:
        if self.extract.pooling == "none" and self.dictionaries.stacked == "always":
            raise ValueError(
                "dictionaries.stacked: with extract.pooling none rows stay on the disk and dictionaries are trained "
                "one by one; use auto or never"
            )
        return self

    @model_validator(mode="after")
    def _imported_layers_are_read(self) -> Study:
        for one in self.dictionaries.imported:
            if one.layer not in self.extract.layers:
                raise ValueError(
                    f"dictionaries.imported: expected {one.name} on one of extract.layers "
                    f"({', '.join(map(str, self.extract.layers))}), found layer {one.layer}; add it there"
                )
        return self

    @model_validator(mode="after")
    def _variants_are_recipes(self) -> Study:
        for name, overrides in self.sweep.variants.items():
            try:
                variant_config(self.dictionaries, overrides)
            except ValueError as error:
                raise ValueError(f"sweep.variants.{name}: {error}") from error
        return self

    @model_validator(mode="after")
    def _layers_of_the_organism(self) -> Study:
        organism = self.models.organism
        blocks = getattr(organism, "n_layers", None)
        if blocks is not None and max(self.extract.layers) >= blocks:
            raise ValueError(
                f"extract.layers: expected layers below {blocks}, the organism's number of blocks, "
                f"found {max(self.extract.layers)}"
            )
        return self

    @property
    def sham_names(self) -> list[str]:
        organism = self.models.organism
        return sorted(self.models.shams if organism is None else organism.shams)

    @property
    def names(self) -> dict[str, str]:
        """Side → what people call it."""
        return {"base": "base", "chat": "chat"} | self.models.names


class _Yaml(yaml.SafeLoader):
    """YAML with the booleans of version 1.2: only true and false. PyYAML's own rules would read the key `on` and the
    language code `no` as booleans."""


_Yaml.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Yaml.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"true|True|TRUE|false|False|FALSE"), list("tTfF"))


def _mapping_of_distinct_keys(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if key.value in seen:
            raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} twice", problem_mark=key.start_mark)
        seen.add(key.value)
    return loader.construct_mapping(node, deep=True)


_Yaml.add_constructor("tag:yaml.org,2002:map", _mapping_of_distinct_keys)


def load_study(path: Path) -> Study:
    """Read and check the study file at `path`."""
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_Yaml)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such study file; `antar init` writes one to start from") from error
    except IsADirectoryError as error:
        raise UserError(f"{path}: expected a study file (YAML), found a folder") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: expected UTF-8 text, found bytes that are not ({error.reason})") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark is not None else "unknown line"
        raise UserError(f"{path}, {where}: expected YAML, found {getattr(error, 'problem', error)}") from error
    if not isinstance(raw, dict):
        raise UserError(f"{path}: expected a mapping with `study`, `models` and `corpus`, found {type(raw).__name__}")
    return parse_study(raw, str(path))


def parse_study(raw: dict[Any, Any], where: str) -> Study:
    try:
        return Study.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"{where}: {_one_line(error)}") from error


def _one_line(error: ValidationError) -> str:
    problems = [
        f"{'.'.join(str(part) for part in problem['loc']) or 'study'}: {_plain(problem)}"
        for problem in error.errors()
    ]
    return "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")


def _plain(problem: Any) -> str:
    if problem["type"] == "extra_forbidden":
        return "unknown key; remove it or correct its spelling (`antar init` writes a file with every key)"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "missing":
        return "missing; add it"
    found = problem.get("input")
    shown = f", found {found!r}" if isinstance(found, str | int | float | bool) else ""
    return f"{message}{shown}".replace("\n", " ")


def study_yaml(study: Study) -> str:
    """The resolved study as YAML: every field with the value that it has."""
    return yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)
