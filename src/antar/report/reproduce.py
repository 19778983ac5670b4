"""How to do it again: commands, versions, revisions of models and data, and the hashes that must come out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from antar import __version__
from antar.core.hashing import sha256_file
from antar.report.blocks import Block, Code, Column, Facts, Folded, Paragraph, Row, Section, Table
from antar.report.method import pick
from antar.report.sources import at, number, quoted, setting
from antar.report.words import Prose, listed, told
from antar.run import Run

HASHED = (
    "study.yaml",
    "study.lock.json",
    "corpus/texts.parquet",
    "features/features.parquet",
    "features/examples.parquet",
    "features/contrasts.parquet",
    "features/magnitudes.json",
    "interpret/labels.jsonl",
    "interpret/verdicts.jsonl",
    "interpret/predictions.jsonl",
    "criteria.json",
    "truth_report.json",
)
MANIFESTS = ("organism", "corpus", "features", "interpret")


def reproduce_section(run: Run) -> Section:
    version = str((run.lock.get("versions") or {}).get("antar") or __version__)
    blocks: list[Block] = [
        Paragraph(
            "The study file below holds every setting, defaults written out, and every seed. The same file, versions "
            "and data "
            "give the same bytes on the same kind of machine, and the same numbers to rounding on another."
        ),
        Code(_commands(run, version)),
        Facts(_facts(run)),
        _hashes(run),
    ]
    settings = _settings(run)
    if settings:
        blocks.append(Folded("Versions and machine", [Facts(settings)]))
    return Section("reproduce", "To do it again", blocks)


def _commands(run: Run, version: str) -> list[str]:
    name = str(run.study.get("study") or run.folder.name)
    lines = [
        f"# antar {version}. study.yaml is in this run's folder; its relative paths start where it lies",
        "antar plan study.yaml",
        "antar run study.yaml",
    ]
    folds, seeds = (pick(run.lock, "replicas", "wanted", one) for one in ("folds", "seeds"))
    if folds or seeds:
        lines[-1] += f" --folds {folds or 0} --seeds {seeds or 0}"
    return [*lines, f"antar report runs/{name} --format html    # or md, tex"]


def _facts(run: Run) -> list[tuple[Prose, Prose]]:
    study, found = run.study, list[tuple[Prose, Prose]]()
    found.append(("seed of the study", setting(study.get("seed"), at("study.yaml", "seed"))))
    for side in ("base", "chat"):
        path, revision = pick(study, "models", side, "path"), pick(study, "models", side, "revision")
        if path is not None:
            shown = quoted(path, at("study.yaml", "models", side, "path"))
            if revision:
                shown = told("{} at {}", shown, quoted(revision, at("study.yaml", "models", side, "revision")))
            found.append((run.names[side], shown))
    organism = pick(study, "models", "organism")
    if organism is not None:
        seed = setting(pick(organism, "seed"), at("study.yaml", "models", "organism", "seed"))
        kind = quoted(pick(organism, "kind"), at("study.yaml", "models", "organism", "kind"))
        found.append(("the models", told("an organism of kind {}, seed {}: antar makes them", kind, seed)))
    revisions: Mapping[str, Any] = run.lock.get("revisions") or {}
    for name, commit in revisions.items():
        found.append(
            (
                quoted(name, "study.lock.json#keys:/revisions"),
                quoted(commit, at("study.lock.json", "revisions", name)),
            )
        )
    if not revisions and organism is None:
        found.append(("revisions read from a hub", "none; files of this machine"))
    return found


def _settings(run: Run) -> list[tuple[Prose, Prose]]:
    found: list[tuple[Prose, Prose]] = [
        (name, quoted(str(version), at("study.lock.json", "versions", name)))
        for name, version in (run.lock.get("versions") or {}).items()
    ]
    for name, value in (run.lock.get("machine") or {}).items():
        if value in (None, []):
            continue
        source = at("study.lock.json", "machine", name)
        if isinstance(value, list | tuple):
            shown: Prose = listed([quoted(str(one), f"{source}/{i}") for i, one in enumerate(value)])
        else:
            shown = quoted(value, source) if isinstance(value, str) else number(value, source)
        found.append((name.replace("_", " "), shown))
    return found


def _hashes(run: Run) -> Block:
    rows = [Row(name, [quoted(sha256_file(run.folder / name), f"{name}#sha256")]) for name in HASHED if run.has(name)]
    for name in MANIFESTS:
        manifest = run.manifest(name)
        if manifest is not None and manifest.fingerprint.code:
            code = quoted(manifest.fingerprint.code, at(f"{name}/manifest.json", "fingerprint", "code"))
            rows.append(Row(f"code that made {name}", [code]))
    columns = [Column("file", False), Column("SHA-256", False)]
    return Folded(
        "Hashes of the files that every number here comes from",
        [
            Table(
                "SHA-256 of files and of the code that made them",
                columns,
                rows,
                "Of dictionaries and activations: each manifest.json in the run's folder.",
            )
        ],
    )
