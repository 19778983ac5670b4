"""What makes features and criteria stale: everything that they read, whichever side it belongs to."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from antar.core.hashing import PACKAGE_ROOT
from antar.core.manifest import MANIFEST_NAME, Fingerprint, write_manifest
from antar.core.sites import Site, codes_folder
from antar.stages import features, measure, sham
from antar.stages.extract import model_identity

sys.path.insert(0, str(Path(__file__).parent))
from stored import STUDY, D, stored_run, write_site


def write_artifact(folder: Path, name: str, content: str = "as it was") -> None:
    path = folder / name / "content.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    write_manifest(path.with_name(MANIFEST_NAME), name, Fingerprint(), [path])


@pytest.fixture
def context(tmp_path):
    """A study with dictionaries on base alone, made as far as `interpret`."""
    recipe = yaml.safe_load(STUDY)["dictionaries"]
    context = stored_run(tmp_path, dictionaries=recipe | {"sides": ["base"], "seeds": 0, "folds": 0})
    for one in context.dictionary_ids():
        write_artifact(tmp_path, f"dictionaries/{one.folder}")
    for dictionary, side in context.code_sets():
        write_artifact(tmp_path, f"codes/{codes_folder(dictionary, side)}")
    for name in ("features", "interpret"):
        write_artifact(tmp_path, name)
    return context


def made_of(context) -> tuple[str, str]:
    """Fingerprints of the tables and of the criteria; the tables' own manifest stays as it lies there."""
    (criteria,) = measure.artifacts(context)
    return features.artifacts(context)[-1].fingerprint.sha256, criteria.fingerprint.sha256


@pytest.mark.parametrize("side", ["base", "chat", "sham:a"])
def test_activations_of_every_side_are_inputs_of_geometry_and_criteria(context, side):
    """Base alone has dictionaries, yet the shape of the shift and its energy are of chat and of the sham."""
    tables, criteria = made_of(context)
    assert made_of(context) == (tables, criteria)
    write_site(context.folder, Site(side, 1), np.ones((context.n_texts(), D), np.float32))
    changed_tables, changed_criteria = made_of(context)
    assert changed_tables != tables and changed_criteria != criteria


@pytest.mark.parametrize("side", ["base", "chat", "sham:a"])
def test_codes_of_every_side_are_inputs_of_the_criteria(context, side):
    (one, _) = context.code_sets()[0]
    _, criteria = made_of(context)
    write_artifact(context.folder, f"codes/{codes_folder(one, side)}", "encoded anew")
    assert made_of(context)[1] != criteria


@pytest.mark.parametrize("name", ["config.json", "chat_template.jinja", "additional_chat_templates/tool_use.jinja"])
def test_a_checkpoint_is_another_when_its_template_is(tmp_path, name):
    """transformers 5 keeps a chat template in a file of its own, and others beside it in a folder."""
    folder = tmp_path / "chat"
    (folder / "additional_chat_templates").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    context = stored_run(tmp_path, models={"base": {"path": "nowhere"}, "chat": {"path": "chat"}})
    found = [model_identity(context, "chat")]
    for template in ("{{ messages }}", "<user>{{ messages }}"):
        (folder / name).write_text(template, encoding="utf-8")
        found.append(model_identity(context, "chat"))
    (folder / "README.md").write_text("not a part of it", encoding="utf-8")
    assert len(set(found)) == 3 and model_identity(context, "chat") == found[-1]


def imported_by(module: str, found: set[str]) -> set[str]:
    """`corpora/neutral.py` and every module of corpora that it comes to import."""
    if module in found:
        return found
    found.add(module)
    for node in ast.walk(ast.parse((PACKAGE_ROOT / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("antar.corpora"):
            path = (node.module or "").removeprefix("antar.").replace(".", "/")
            names = [f"{path}.py", f"{path}/__init__.py", *(f"{path}/{one.name}.py" for one in node.names)]
            for name in names:
                if (PACKAGE_ROOT / name).is_file():
                    imported_by(name, found)
    return found


def test_the_code_that_makes_a_shams_texts_is_in_its_fingerprint(tmp_path, monkeypatch):
    def parts(make):
        said = []
        monkeypatch.setattr(sham, "code_version", lambda *its: said.extend(its) or "")
        models = {"base": {"path": "nowhere"}, "chat": {"path": "elsewhere"}, "shams": {"a": {"make": make}}}
        sham.artifacts(stored_run(tmp_path, models=models))
        return said

    needed = imported_by("corpora/neutral.py", set()) - {"corpora/config.py"}  # the study's values are in the config
    assert {"corpora/clean.py", "corpora/near.py", "corpora/sample.py", "corpora/rows.py"} <= needed
    (tmp_path / "n.txt").write_text("neutral", encoding="utf-8")
    own, given = parts({}), parts({"texts": "n.txt"})
    assert [one for one in needed if not one.startswith(tuple(given))] == []
    assert "core/seeds.py" in own and not any(one.startswith("corpora") for one in own)
