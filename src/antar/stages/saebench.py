"""Beside the stages: SAEBench's own evaluations on a run's dictionaries, in an environment of its own.

`saebench/<dictionary>/<evaluation>.json` is SAEBench's result file as it wrote it, with a manifest that says of which
dictionary, activations, settings and versions it is; what is fresh is not run again. `saebench/results.json` sums up
what is there and says why the rest is not; the measure stage takes it into criteria.json, beside criterion 3. What an
interrupted evaluation has done so far stays in `saebench/work/` (other tools' files, pickles among them, which antar
never opens) until the same command ends.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from antar.core.atomic import write_bytes, write_json
from antar.core.errors import UserError
from antar.core.hashing import code_version, sha256_json
from antar.core.lock import only_process
from antar.core.manifest import Fingerprint, Manifest
from antar.core.progress import say
from antar.criteria.benchmarks import Benchmarks, NotRun
from antar.run import Run, load_run
from antar.stages.artifact import Artifact, ensure_files
from antar.stages.export import export_run, finished_dictionaries
from antar.stages.saebench_environment import Environment, Refusal
from antar.stages.saebench_jobs import Job, Wanted, choose, model_name, numbers_of, open_dictionaries
from antar.stages.saebench_results import FOLDER, OF, RESULTS, contents, result_rows, still_missing


def run_saebench(
    run_folder: Path, environment: Environment, wanted: Wanted, device: str = "cpu", threads: int | None = None
) -> Benchmarks:
    """Run what can be run on the run in `run_folder`, and write what came of it.

    An evaluation that fails is said in a line and stands under `not_run`; the others go on. Raises UserError for what
    was asked wrongly, and for dictionaries that are not whole.
    """
    run = load_run(run_folder)
    jobs, missing = choose(run, wanted.checked())
    _check_datasets(environment, wanted)
    finished_dictionaries(run, open_dictionaries(jobs))
    place = run.folder / FOLDER
    with only_process(run.folder):
        bench = _Bench(run, environment, wanted, device, threads)
        failed = [
            why for at, job in enumerate(jobs) if (why := bench.run(job, f"{at + 1} of {len(jobs)}")) is not None
        ]
        rows = result_rows(run, environment.versions)
        missing = still_missing([*failed, *missing], rows)
        found = Benchmarks(versions=dict(environment.versions), rows=rows, not_run=missing)
        write_json(place / RESULTS, found.model_dump(mode="json") | {"of": contents(run)})
        if not failed:
            shutil.rmtree(place / "work", ignore_errors=True)
    return found


def _check_datasets(environment: Environment, wanted: Wanted) -> None:
    known = environment.data_sets() if wanted.datasets else None
    if known is not None and (unknown := [name for name in wanted.datasets if name not in known]):
        near = get_close_matches(unknown[0], known, 3, 0.3) or known[:3]
        raise UserError(
            f"--dataset: expected one of the {len(known)} of sae-probes (such as {', '.join(near)}), found "
            f"{', '.join(unknown)}"
        )


class _Bench:
    """What the jobs of one command share."""

    def __init__(self, run: Run, environment: Environment, wanted: Wanted, device: str, threads: int | None) -> None:
        self._run, self._environment, self._wanted = run, environment, wanted
        self._device, self._threads = device, threads
        self._place = run.folder / FOLDER

    def run(self, job: Job, of: str) -> NotRun | None:
        """Make the job's result where it is not fresh; why there is none, or None."""
        artifact = self._artifact(job)
        state = artifact.state()
        if state.fresh:
            say(f"  {job.evaluation} on {job.dictionary}: fresh")
            return None
        say(f"  {job.evaluation} on {job.dictionary} ({of})")
        try:
            ensure_files(artifact, lambda: self._make(job, artifact))
        except (Refusal, UserError) as why:
            say(f"    not made: {why}")
            return NotRun(evaluation=job.evaluation, dictionaries=[str(job.dictionary)], reason=str(why))
        return None

    def _artifact(self, job: Job) -> Artifact:
        one = job.dictionary
        inputs = {OF: _manifest(self._run, f"dictionaries/{one.folder}").content}
        if job.model is not None:
            inputs["activations"] = _manifest(self._run, f"activations/{one.site.folder}").content
        config = {
            "evaluation": job.evaluation,
            "settings": self._wanted.settings(job.evaluation),
            "versions": dict(self._environment.versions),
        }
        code = code_version("stages/saebench.py", "stages/saebench_runner.py", "dictionaries/saelens.py")
        return Artifact(
            f"{FOLDER}/{one}/{job.evaluation}",
            self._place / one.folder,
            Fingerprint(inputs=inputs, config=config, code=code),
            manifest_name=f"{job.evaluation}.manifest.json",
        )

    def _make(self, job: Job, artifact: Artifact) -> tuple[Sequence[Path], Mapping[str, Any]]:
        one, fingerprint = job.dictionary, artifact.fingerprint
        # What is kept for the next job or after a kill is kept for this model and these settings only.
        key = sha256_json([fingerprint.inputs.get("activations"), fingerprint.config, fingerprint.code])[:12]
        work = self._place / "work" / key
        work.mkdir(parents=True, exist_ok=True)
        sae = self._place / "work" / "saes" / _of_content(fingerprint)
        if not (sae / one.folder / "cfg.json").is_file():
            shutil.rmtree(sae, ignore_errors=True)
            export_run(self._run.folder, sae, "saelens", str(one), inside=True)
        out, log = work / "result.json", self._place / "logs" / f"{one.folder}.{job.evaluation}.log"
        out.unlink(missing_ok=True)
        seconds = self._environment.run(
            {
                "evaluation": job.evaluation,
                "dictionary": str(one),
                "release": one.folder,
                "sae": str((sae / one.folder).resolve()),
                "model": None if job.model is None else str(job.model.resolve()),
                "model_name": None if job.model is None else model_name(self._run, one.trained_on),
                "settings": self._wanted.settings(job.evaluation),
                "device": self._device,
                "threads": self._threads,
                "out": str(out.resolve()),
            },
            work,
            log,
            self._wanted.online,
        )
        kept = artifact.folder / f"{job.evaluation}.json"
        try:
            numbers = numbers_of(job.evaluation, json.loads(out.read_bytes()))
        except (OSError, ValueError, AttributeError) as error:
            raise UserError(
                f"SAEBench's {job.evaluation} on {one} left no result that can be read ({log})"
            ) from error
        write_bytes(kept, out.read_bytes())
        say(f"    done in {seconds:.0f} s")
        return [kept], {
            "dictionary": str(one),
            "seconds": seconds,
            "versions": dict(self._environment.versions),
            **numbers,
        }


def _of_content(fingerprint: Fingerprint) -> str:
    return fingerprint.inputs[OF][:12]


def _manifest(run: Run, folder: str) -> Manifest:
    found = run.manifest(folder)
    if found is None:
        raise UserError(f"{run.folder / folder}: not made yet, or not finished; `antar run STUDY` makes it")
    return found
