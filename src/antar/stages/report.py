"""Stage 7: the page and its figures, made again when anything that they show has changed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from antar.core.hashing import code_version, sha256_json
from antar.core.manifest import MANIFEST_NAME, Fingerprint, read_manifest
from antar.run import load_run
from antar.stages.artifact import Artifact, ensure_files
from antar.stages.context import Context, NotReady, config_slice
from antar.stages.measure import MANIFEST as MEASURE_MANIFEST


def artifacts(context: Context) -> list[Artifact]:
    measured = read_manifest(context.folder / MEASURE_MANIFEST)
    if measured is None:
        raise NotReady("criteria.json")
    inputs = {name: context.manifest(name).content for name in ("corpus", "features", "interpret")}
    for dictionary in context.dictionary_ids():
        inputs[f"dictionaries/{dictionary}"] = context.manifest(f"dictionaries/{dictionary.folder}").content
    for name in context.study.models.made_shams:
        inputs[f"shams/{name}"] = context.manifest(f"shams/{name}").content
    return [
        Artifact(
            "report",
            context.folder / "report",
            Fingerprint(
                inputs=inputs | {"measure": measured.content, "facts": sha256_json(context.manifest("corpus").facts)},
                config={"study": config_slice(context.study, "sweep", "engine")},
                code=code_version("report", "run.py", "dictionaries/config.py"),
            ),
        )
    ]


def make(context: Context) -> None:
    (artifact,) = artifacts(context)
    ensure_files(artifact, lambda: (_write(artifact.folder, artifact.manifest_path), {}))


def write_of(folder: Path) -> None:
    """Write the report of the run folder as it is: of any run, whole or not, without its study file's inputs.

    The manifest of an earlier report goes first, so that the next run of the study makes its own.
    """
    report = folder / "report"
    manifest = report / MANIFEST_NAME
    manifest.unlink(missing_ok=True)
    _write(report, manifest)


def _write(folder: Path, manifest: Path) -> Sequence[Path]:
    # Figures of an earlier version, and what a killed writer left, would otherwise count as this report's.
    shutil.rmtree(folder / "figures", ignore_errors=True)
    from antar.report import write_report  # brings matplotlib, which no other stage waits for

    write_report(load_run(folder.parent))
    return [path for path in folder.rglob("*") if path.is_file() and path != manifest]
