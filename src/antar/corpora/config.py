"""The study file's `corpora` part: which texts, how many, how they are cleaned, sampled, matched and split.

Every default is the published study's (its texts, its numbers), except where antar mends it: duplicates are
dropped, and splits are by document. A source is one text collection; its `source` key says how to read it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from antar.core.config import Config

Group = Literal["cultural", "control"]
Split = Literal["train", "val", "heldout", "crosscheck"]
Column = str | int
FACET_RESERVED = (
    "text_id", "text", "group", "language", "source", "document", "split", "half", "masked_of", "reading_of",
)  # fmt: skip


class Where(Config):
    """Bounds on a text (after it was cut into units); what lies outside is dropped and counted."""

    min_words: int | None = Field(default=None, ge=1)
    max_words: int | None = Field(default=None, ge=1)
    min_characters: int | None = Field(default=None, ge=1)
    max_characters: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> Where:
        for low, high in ((self.min_words, self.max_words), (self.min_characters, self.max_characters)):
            if low is not None and high is not None and low > high:
                raise ValueError(f"the lower bound {low} is above the upper bound {high}")
        return self


class SourceConfig(Config):
    """What every source has."""

    name: str = ""
    """Names the source in `texts.source` and in ids; the kind of the source when left out."""
    group: Group = "control"
    """Whether these texts are cultural or control texts."""
    n: int | dict[str, int] | None = None
    """How many texts to sample for each language (one number, or language → number); null takes all."""
    unit: Literal["response", "sentence", "window"] = "response"
    """How a source text becomes texts: whole, by sentence, or by consecutive windows of `window_words` words."""
    window_words: int = Field(default=60, ge=2)
    """Words in a window (used by `unit: window`)."""
    where: Where = Where()
    """Further bounds on the texts of this source."""
    near_duplicates: bool = True
    """Whether `clean.near_duplicates` applies here; say false for texts made from templates."""
    split: Literal["by document", "heldout", "crosscheck"] = "by document"
    """`heldout` keeps all of this source out of training. `crosscheck` keeps it out of the contrasts too: its texts
    only ever test whether the features that were chosen on the other sources fire on them (DOSA)."""

    @property
    def label(self) -> str:
        return self.name or str(getattr(self, "source", "source"))

    def wanted(self, language: str) -> int | None:
        """How many texts of `language` are wanted; None is all; a language that `n` does not list is 0."""
        return self.n.get(language, 0) if isinstance(self.n, dict) else self.n

    @model_validator(mode="after")
    def _crosscheck_is_cultural(self) -> SourceConfig:
        mixed = getattr(self, "group_column", None) is not None or getattr(self, "source", "") == "organism"
        if self.split == "crosscheck" and (self.group != "cultural" or mixed):
            raise ValueError(
                "`split: crosscheck` takes cultural texts only (its controls are those of the other sources); write "
                "`group: cultural`, without `group_column`"
            )
        return self

    @field_validator("n")
    @classmethod
    def _positive(cls, n: int | dict[str, int] | None) -> int | dict[str, int] | None:
        counts = n.values() if isinstance(n, dict) else [n]
        if any(count is not None and count < 1 for count in counts) or n == {}:
            raise ValueError("n must be at least 1 for each language, or null for all")
        return n


class HubSource(SourceConfig):
    """A data set of the Hugging Face hub, read from there or from files of the same layout in a folder."""

    repo: str
    config: str | None = None
    revision: str | None = None
    """The commit to read; null reads the newest and records its sha in the corpus's facts."""
    folder: Path | None = None
    """A folder that holds the repository's files, put there by hand; null reads the hub."""


class Updesh(HubSource):
    """Assistant responses of Updesh's cultural multi-hop reasoning: the last assistant message of each row."""

    source: Literal["updesh"] = "updesh"
    group: Group = "cultural"
    repo: str = "microsoft/Updesh_beta"
    config: str | None = "cultural_multihop_reasoning"
    n: int | dict[str, int] | None = Field(default={"en": 15000, "hi": 15000})
    languages: dict[str, str] = Field(default={"en": "eng_Latn", "hi": "hin_Deva"})
    """Language → the split of the data set that holds it."""

    @model_validator(mode="after")
    def _known_languages(self) -> Updesh:
        unknown = sorted(set(self.n) - set(self.languages)) if isinstance(self.n, dict) else []
        if unknown:
            raise ValueError(f"n names {', '.join(unknown)}, which `languages` does not map to a split")
        return self


class Snli(HubSource):
    """Premises of SNLI (image captions) whose label is not -1 and which are long enough; each premise once."""

    source: Literal["snli"] = "snli"
    repo: str = "stanfordnlp/snli"
    config: str | None = "plain_text"
    n: int | dict[str, int] | None = 5000
    min_characters: int = Field(default=11, ge=1)
    """Published: more than 10 characters."""


class Iitb(HubSource):
    """The Hindi side of the IIT Bombay English-Hindi corpus (news, web), within bounds on its words."""

    source: Literal["iitb"] = "iitb"
    repo: str = "cfilt/iitb-english-hindi"
    n: int | dict[str, int] | None = 5000
    min_words: int = Field(default=10, ge=1)
    max_words: int = Field(default=50, ge=1)


class Dosa(SourceConfig):
    """DOSA's clues about social artifacts of Indian subcultures, with facets `state` and `artifact`."""

    source: Literal["dosa"] = "dosa"
    group: Group = "cultural"
    folder: Path | None = None
    """A clone of DOSA's repository, or its `data` folder; null looks for `DOSA` in `--from-folder`."""
    near_duplicates: bool = False
    masked: bool = False
    """Read a second copy of every clue, in which the artifact's name and every state's name are replaced by neutral
    words, and report the cross-check on it beside the clues as they are. Needs `split: crosscheck`."""

    @model_validator(mode="after")
    def _masked_is_a_crosscheck(self) -> Dosa:
        if self.masked and self.split != "crosscheck":
            raise ValueError("`masked: true` needs `split: crosscheck`: a masked copy is no text of the corpus")
        return self


class Files(SourceConfig):
    """Anybody's texts. Columns are mapped by name, or by 0-based index where a table has no header."""

    source: Literal["files"] = "files"
    paths: list[str] = Field(min_length=1)
    """Files, relative to the study file; `*` is allowed."""
    format: Literal["jsonl", "csv", "tsv", "parquet", "conllu", "txt"] | None = None
    """Null tells it from the file's ending. `txt` is plain text, one text a line."""
    header: bool = True
    """CSV and TSV: whether the first line names the columns."""
    quoted: bool | None = None
    """CSV and TSV: whether a field may be wrapped in double quotes; null: yes, except in a TSV without header."""
    text: Column = "text"
    id: Column | None = None
    """Null numbers the rows of each file (CoNLL-U: `# sent_id`)."""
    document: Column | None = None
    """Texts of one document never part; null makes each row its own (CoNLL-U: `# newdoc id`)."""
    documents_of: str | None = None
    """A namespace to share with another source, so that parallel texts with one document id stay together."""
    group_column: Column | None = None
    """A column that says cultural or control; then `group` is not used."""
    language: str | None = None
    """The language of all texts; null looks at `language_column`, then at the script."""
    language_column: Column | None = None
    facets: dict[str, Column] = Field(default={})
    """Facet → column."""

    @field_validator("facets")
    @classmethod
    def _free_names(cls, facets: dict[str, Column]) -> dict[str, Column]:
        taken = sorted(set(facets) & set(FACET_RESERVED))
        if taken:
            raise ValueError(f"a facet cannot be called {', '.join(taken)}: antar uses that column itself")
        return facets


class Organism(SourceConfig):
    """The texts that came with a planted organism; group, language, document and facets are in the file."""

    source: Literal["organism"] = "organism"
    near_duplicates: bool = False


Source = Annotated[Updesh | Snli | Iitb | Dosa | Files | Organism, Field(discriminator="source")]


class CleanConfig(Config):
    """Which texts are dropped before anything is sampled."""

    min_characters: int = Field(default=2, ge=1)
    max_characters: int | None = Field(default=None, ge=1)
    min_words: int = Field(default=1, ge=1)
    max_words: int | None = Field(default=None, ge=1)
    near_duplicates: float | None = Field(default=0.8, ge=0.6, le=1.0)
    """Jaccard similarity of character 5-grams from which a text is a near duplicate; null keeps all."""
    detect_language: bool = True
    """Drop texts whose script is not that of the language which their source states (en, hi)."""


class MatchConfig(Config):
    """Sample controls so that they resemble the cultural texts."""

    on: list[Literal["language", "length"]] = Field(default=["language", "length"], min_length=1)
    bins: int = Field(default=10, ge=2)
    """Quantile bins of the cultural texts' lengths in words."""


class SplitConfig(Config):
    """Shares of documents."""

    train: float = Field(default=0.75, gt=0, lt=1)
    val: float = Field(default=0.05, ge=0, lt=1)
    heldout: float = Field(default=0.2, gt=0, lt=1)
    controls: Literal["heldout", "same"] = "heldout"
    """`heldout` (published: dictionaries see cultural texts only) or `same` (controls are split likewise)."""

    @model_validator(mode="after")
    def _whole(self) -> SplitConfig:
        if abs(self.train + self.val + self.heldout - 1) > 1e-9:
            raise ValueError(f"train + val + heldout must be 1, found {self.train + self.val + self.heldout:g}")
        return self


class CorpusConfig(Config):
    """The corpus of a study."""

    sources: list[Source] = Field(default_factory=lambda: [Updesh(), Snli(), Iitb()], min_length=1)
    clean: CleanConfig = CleanConfig()
    match: MatchConfig | None = None
    """Null samples controls at random, as published."""
    split: SplitConfig = SplitConfig()

    @field_validator("sources")
    @classmethod
    def _named_apart(cls, sources: list[Source]) -> list[Source]:
        labels = [source.label for source in sources]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ValueError(f"two sources are called {', '.join(twice)}: give each its own `name`")
        return sources
