"""The stages in order: what is fresh, what is stale and why, and what runs next.

`run_study` makes every stage up to one; `plan_study` says what it would do, and runs nothing. Two processes
cannot work in one run folder: the second one is told so.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from antar.core.atomic import sweep as sweep_leftovers
from antar.core.atomic import write_text
from antar.core.errors import UserError
from antar.core.lock import in_turn, only_process
from antar.core.manifest import read_manifest
from antar.core.progress import say
from antar.engines import Engine, InlineEngine
from antar.models import check_pair
from antar.models.config import ModelConfig
from antar.run import load_run
from antar.stages import corpus, extract, features, interpret, measure, organism, report, sham, sweep, train
from antar.stages.artifact import Artifact
from antar.stages.context import Context, NotReady, lock_key, read_lock
from antar.stages.imported import check_imported
from antar.stages.parts import Part
from antar.stages.replicas import wanted_replicas, without_replicas
from antar.study import Study, load_study, study_yaml


@dataclass(frozen=True)
class Stage:
    """artifacts: what the stage makes (raises NotReady until its inputs exist); make: makes what is not fresh."""

    name: str
    does: str
    artifacts: Callable[[Context], list[Artifact]]
    make: Callable[[Context], None]


CORPUS = Stage("corpus", "texts: load, clean, sample, split", corpus.artifacts, corpus.make)
ORGANISM = Stage("organism", "a model pair with a planted difference", organism.artifacts, organism.make)
SHAM = Stage("sham", "base trained on with nothing to learn, as far as chat drifted", sham.artifacts, sham.make)
LATER = (
    Stage("extract", "activations of every side at every layer", extract.artifacts, extract.make),
    Stage("train", "dictionaries", train.artifacts, train.make),
    Stage("features", "codes, live features, examples", features.artifacts, features.make),
    Stage("interpret", "labels, verdicts, predictions", interpret.artifacts, interpret.make),
    Stage("measure", "contrasts and the seven criteria", measure.artifacts, measure.make),
    Stage("report", "the page and its figures", report.artifacts, report.make),
)
STAGE_NAMES = ("organism", "corpus", "sham", *(stage.name for stage in LATER))


def stages_of(study: Study) -> list[Stage]:
    """In order. An organism made from a grammar comes before its corpus; one fine-tuned on texts, after."""
    kind = study.models.organism
    if kind is None:
        return [CORPUS, SHAM, *LATER] if study.models.made_shams else [CORPUS, *LATER]
    return [ORGANISM, CORPUS, *LATER] if kind.kind == "tiny" else [CORPUS, ORGANISM, *LATER]


def open_study(
    path: Path,
    runs: Path = Path("runs"),
    engine: Engine | None = None,
    from_folder: Path | None = None,
    folds: int | None = None,
    seeds: int | None = None,
) -> Context:
    """Read the study file at `path`; its run folder is `runs/<study>`. Nothing is written.

    folds, seeds: replicas that this run folder shall have, whatever the study file says; `run_study` remembers them.
    """
    study = load_study(path)
    given = from_folder.resolve() if from_folder else None
    folder = runs / study.study
    said = wanted_replicas(study, read_lock(folder), folds, seeds)
    study = said.applied(study) if said else study
    engine = engine or InlineEngine()
    # Workers elsewhere have another working folder.
    folder = folder if engine.local else folder.resolve()
    return Context(study, path.resolve().parent, folder, engine, given, said)


def run_study(
    context: Context,
    until: str | None = None,
    only: str | None = None,
    force: str | None = None,
    train_replicas: bool = False,
) -> None:
    """Make every stage in order, up to and with `until`, redoing `force`. With `only`, that one stage alone, and with
    `train_replicas` the replicas that are missing before it, if all else that it needs is fresh.

    Raises UserError for a stage that the study does not have, or when another process works in the run folder.
    """
    stages = stages_of(context.study)
    for name in filter(None, (until, only, force)):
        _check_stage(name, stages)
    with _at_work(context.folder):
        if only is not None:
            own = replace(context, study=without_replicas(context.study)) if train_replicas else context
            _check_earlier(stages, only, own)
        if only in (None, "train"):
            check_imported(context)
        _write_study(context)
        if context.replicas_as_said is not None:
            say(context.replicas_as_said.line)
        if train_replicas and only is not None:
            _run_stage(next(stage for stage in stages if stage.name == "train"), context, force=False)
        if only in (None, "sham", "extract") and until not in ("organism", "corpus"):
            _pin_models(context)
        for stage in stages:
            if only is None or stage.name == only:
                _run_stage(stage, context, force=stage.name == force)
            if stage.name in (until, only):
                break


def report_file(form: str) -> str:
    """The report's file of a form: html, md or tex."""
    from antar.report.page import FORMATS  # matplotlib: only where a report is wanted

    if form not in FORMATS:
        raise UserError(f"--format: expected {', '.join(FORMATS)}, found {form!r}")
    return FORMATS[form]


def write_report_of(folder: Path) -> None:
    """Write the report of a run folder as it is, whole or not, whatever has become of its study file and inputs.

    Raises UserError where `folder` is no run, or while another process works in it.
    """
    load_run(folder)
    with _at_work(folder):
        report.write_of(folder)


def run_part(context: Context, part: Part, stage: str = "extract") -> None:
    """Make a part of a stage's shards in this process, beside others that make other parts in the same run folder.

    Raises UserError for a stage without parts, when what it needs is not fresh, and when a run works in the folder.
    """
    if stage != "extract":
        raise UserError(f"--shard: expected --stage extract, the one stage that has parts, found {stage!r}")
    _make_folder(context.folder)
    with only_process(context.folder, shared=True):
        stages = stages_of(context.study)
        _check_earlier(stages, stage, context)
        if _unpinned(context):
            with in_turn(context.folder, "pins"):
                _pin_models(context)
        say(f"{stage}: part {part}")
        next(one for one in stages if one.name == stage).make(replace(context, part=part))


def run_sweep(context: Context, only: Sequence[str] = (), force: bool = False) -> pl.DataFrame:
    """Train the variants of the study's `sweep:` (or `only` some) on its activations; the table of all that are made.

    Raises UserError for a variant that the study does not have, and when the activations are not fresh.
    """
    variants = sweep.chosen_variants(context, only)
    with _at_work(context.folder):
        # study.yaml stays: it says what made the stages, of which this is none.
        _check_earlier(stages_of(context.study), "train", context, asked="sweep")
        if force:
            _forget([artifact for name in variants for _, artifact in sweep.artifacts(context, name)])
        say(f"sweep: {', '.join(variants)}")
        return sweep.make(context, variants)


# Sheets are drawn and answered while a study runs: what looks like a leftover there may be somebody's work.
_NOT_SWEPT = ("people",)


@contextmanager
def _at_work(folder: Path) -> Generator[None]:
    """The run folder, made, locked and without what killed runs left, while the block runs."""
    _make_folder(folder)
    with only_process(folder):
        sweep_leftovers(folder, leave=_NOT_SWEPT)
        yield


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder}: expected a run folder that can be made, found: {error.strerror or error}; name another place "
            "with --runs"
        ) from error


def _run_stage(stage: Stage, context: Context, force: bool) -> None:
    try:
        if force:
            _forget(stage.artifacts(context))
        artifacts = stage.artifacts(context)
        states = [artifact.state() for artifact in artifacts]
    except NotReady as gap:
        raise UserError(
            f"{stage.name}: expected {gap.needed} in {context.folder}, found none; `antar run` makes it first"
        ) from gap
    if all(state.fresh for state in states):
        say(f"{stage.name}: fresh")
        return
    say(f"{stage.name}: {stage.does}")
    started = time.monotonic()
    stage.make(context)
    say(f"  done in {time.monotonic() - started:.1f} s")


def _check_earlier(stages: list[Stage], only: str, context: Context, asked: str | None = None) -> None:
    """A stage alone is made from what its study says, or not at all. `asked`: what the user called it."""
    for stage in stages:
        if stage.name == only:
            return
        try:
            reasons = [line for artifact in stage.artifacts(context) for line in artifact.state().why()]
        except NotReady as gap:
            reasons = [f"{gap.needed}: not made yet"]
        if reasons:
            raise UserError(
                f"{asked or only}: needs {stage.name} first ({reasons[0]}); `antar {stage.name} STUDY` makes it"
            )


def _forget(artifacts: list[Artifact]) -> None:
    for artifact in artifacts:
        manifest = read_manifest(artifact.manifest_path)
        artifact.manifest_path.unlink(missing_ok=True)
        for name in manifest.files if manifest else ():
            (artifact.folder / name).unlink(missing_ok=True)


def _check_stage(name: str, stages: list[Stage]) -> None:
    names = [stage.name for stage in stages]
    if name == "sham" and name not in names:
        of_organism = "sham: this study's shams come with its organism (`antar organism STUDY`); none is to be made"
        raise UserError(of_organism if "organism" in names else sham.NONE_TO_MAKE)
    if name not in names:
        raise UserError(f"stage: expected one of {', '.join(names)}, found {name!r}")


def _write_study(context: Context) -> None:
    write_text(context.folder / "study.yaml", study_yaml(context.study))
    context.write_lock({})


def _unpinned(context: Context) -> dict[str, ModelConfig]:
    """The checkpoints that the study names, by side, unless the run knows the commit of each."""
    asked = context.study.models
    if asked.organism is not None or asked.base is None or asked.chat is None:
        return {}
    # Not those that are made: they are not there yet, and have base's blocks and tokenizer.
    given = {f"sham:{name}": model for name, model in asked.given_shams.items()}
    sides = {"base": asked.base, "chat": asked.chat, **given}
    pinned = context.revisions()
    return {} if all(lock_key(model.path, model.revision) in pinned for model in sides.values()) else sides


def _pin_models(context: Context) -> None:
    """Check the checkpoints before anything long is run, and keep the commit of each that comes from the hub."""
    sides = _unpinned(context)
    if not sides:
        return
    found = check_pair({side: context.models()[side] for side in sides}, context.layers()).revisions
    context.write_lock(
        {
            lock_key(sides[side].path, sides[side].revision): commit
            for side, commit in found.items()
            if commit is not None and side in sides  # random weights are of base's commit
        }
    )


# -- plan -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StagePlan:
    """reasons: why each artifact must be (re)made; waits_for: what must exist before that can be said."""

    stage: str
    reasons: list[str]
    waits_for: str | None = None

    @property
    def fresh(self) -> bool:
        return not self.reasons and self.waits_for is None


def plan_study(context: Context) -> list[StagePlan]:
    """What `run_study` would do, stage by stage. Reads manifests and checksums; writes and runs nothing."""
    plans: list[StagePlan] = []
    refused = _refused_imports(context)
    for stage in stages_of(context.study):
        stale_before = next((plan.stage for plan in plans if not plan.fresh), None)
        if stage.name == "train" and refused is not None:
            plans.append(StagePlan(stage.name, [f"cannot run yet: {refused}"]))
            continue
        try:
            states = [artifact.state() for artifact in stage.artifacts(context)]
        except NotReady as gap:
            plans.append(StagePlan(stage.name, [], waits_for=stale_before or gap.needed))
            continue
        except UserError as problem:
            plans.append(StagePlan(stage.name, [f"cannot run yet: {problem}"]))
            continue
        reasons = [line for state in states if not state.fresh for line in state.why()]
        plans.append(StagePlan(stage.name, reasons, waits_for=stale_before))
    return plans


def _refused_imports(context: Context) -> UserError | None:
    """What `antar run` would refuse an imported dictionary for before anything else."""
    try:
        check_imported(context)
    except UserError as problem:
        return problem
    return None


def free_bytes(folder: Path) -> int:
    """Free disk space where `folder` is or will be."""
    existing = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    return shutil.disk_usage(existing).free
