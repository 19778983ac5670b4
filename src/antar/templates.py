"""The study file that `antar init` writes: a small working head, then every setting with its meaning and default.

The settings and their comments are read off the config models, so that the file cannot drift from the code.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from antar.core.atomic import write_text
from antar.core.errors import UserError
from antar.study import Study

HEAD = """\
# A study compares two checkpoints of one language model on labelled texts. `antar plan FILE` says what it would do
# and cost; `antar run FILE` does it. What is commented out below has the value that is shown.
study: my-study
question: What did alignment change inside the model, on my texts?
seed: 42

models:
  base: {path: path/or/hub-name-of-the-base-model}      # a folder, or a hub name with `revision:`
  chat: {path: path/or/hub-name-of-the-aligned-model}
  # A sham is base trained on with nothing to learn. Without one, drift and alignment cannot be told apart.
  # shams: {a: {make: {}}, b: {make: {}}}               # antar makes two (docs/shams.md); or {a: {path: of/a/sham}}
  # A model that was never trained: what a text's surface alone shows. It costs an extraction and its dictionaries.
  # random_weights: true

corpus:
  sources:
    # JSONL, CSV, TSV, parquet, CoNLL-U or lines; columns are mapped by name. Paths are relative to this file.
    - {source: files, name: cultural, paths: [texts/cultural.jsonl], group: cultural, text: text, language: en}
    - {source: files, name: control, paths: [texts/control.csv], group: control, text: sentence, language: en}
    # Others: updesh, snli, iitb (hub data sets) and dosa; see studies/rq1.yaml.
  match: {on: [language, length]}       # controls that resemble the cultural texts
  split: {train: 0.6, val: 0.1, heldout: 0.3, controls: same}
"""
WRITTEN_BY_HAND = ("study", "question", "seed", "models", "corpus", "truth")


def study_template() -> str:
    """The commented study file as text."""
    parts = [HEAD]
    for name, field in Study.model_fields.items():
        if name not in WRITTEN_BY_HAND:
            settings = field.get_default(call_default_factory=True)
            parts.append(f"\n# {name}:\n" + "".join(f"# {line}".rstrip() + "\n" for line in _settings(settings, 1)))
    return "".join(parts)


def _settings(model: BaseModel, depth: int) -> list[str]:
    indent, lines = "  " * depth, []
    for name, field in type(model).model_fields.items():
        lines += [f"{indent}# {line}" for line in textwrap.wrap(_meaning(field), 100 - 2 * depth)]
        value = getattr(model, name)
        if isinstance(value, BaseModel) and len(type(value).model_fields) > 1:
            lines += [f"{indent}{name}:", *_settings(value, depth + 1)]
        else:
            lines.append(f"{indent}{name}: {_flow(value)}")
    return lines


def _meaning(field: FieldInfo) -> str:
    return " ".join((field.description or "").split())


def _flow(value: Any) -> str:
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    plain = list(plain) if isinstance(plain, tuple) else plain
    return (
        yaml.safe_dump(plain, default_flow_style=True, width=1000, allow_unicode=True).removesuffix("...\n").strip()
    )


def write_study_file(path: Path) -> None:
    """Write the template to `path`. Raises UserError when something is there already."""
    if path.exists():
        raise UserError(f"{path}: exists already; give another name, or remove it first")
    write_text(path, study_template())
