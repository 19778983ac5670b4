"""What `antar saebench` left in a run folder: its results, read back, as far as they are of the dictionaries as they
are now."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from antar.core.errors import UserError
from antar.core.manifest import damaged_files, read_manifest
from antar.core.progress import say
from antar.core.sites import DictionaryId
from antar.criteria.benchmarks import BenchmarkRow, Benchmarks, NotRun
from antar.run import Run
from antar.stages.saebench_jobs import RUNNABLE, numbers_of

FOLDER = "saebench"
RESULTS = "results.json"
OF = "dictionary"
"""The manifest's input that says which dictionary was evaluated."""


def current_benchmarks(run: Run) -> Benchmarks | None:
    """What results.json says of the dictionaries as they are now; None where there is none."""
    path = run.folder / FOLDER / RESULTS
    try:
        told = json.loads(path.read_bytes())
        of = told.pop("of")
        found = Benchmarks.model_validate(told)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{path}: expected what `antar saebench` wrote, found it damaged; run that again") from error
    now = contents(run)
    old = {name for name in of if of[name] != now.get(name)}
    if dropped := sorted({row.dictionary for row in found.rows} & old):
        say(f"  SAEBench's results are of other versions of {', '.join(dropped)}; `antar saebench` makes them again")
    rows = [row for row in found.rows if row.dictionary not in old]
    return found.model_copy(update={"rows": rows})


def contents(run: Run) -> dict[str, str]:
    """Dictionary → what it holds, of those that are whole."""
    ids = [one for one in run.dictionary_ids if not one.is_replica]
    found = {str(one): run.manifest(f"dictionaries/{one.folder}") for one in ids}
    return {name: manifest.content for name, manifest in found.items() if manifest is not None}


def result_rows(run: Run, versions: Mapping[str, str]) -> list[BenchmarkRow]:
    """Every result in the run folder that is whole, of the dictionary as it is now and by these `versions`."""
    rows: list[BenchmarkRow] = []
    for name, content in contents(run).items():
        one = DictionaryId.parse(name)
        for evaluation in RUNNABLE:
            path = run.folder / FOLDER / one.folder / f"{evaluation}.manifest.json"
            manifest = read_manifest(path)
            if manifest is None or damaged_files(path, manifest):
                continue
            fingerprint = manifest.fingerprint
            if fingerprint.inputs.get(OF) != content or fingerprint.config.get("versions") != versions:
                continue
            kept = path.with_name(f"{evaluation}.json")
            rows.append(
                BenchmarkRow(
                    dictionary=name,
                    evaluation=evaluation,
                    null=one.is_null,
                    numbers=numbers_of(evaluation, json.loads(kept.read_bytes())),
                    file=kept.relative_to(run.folder).as_posix(),
                )
            )
    return sorted(rows, key=lambda row: RUNNABLE.index(row.evaluation))


def still_missing(missing: Sequence[NotRun], rows: Sequence[BenchmarkRow]) -> list[NotRun]:
    """Without what an earlier command has made."""
    made = {(row.evaluation, row.dictionary) for row in rows}
    left = (
        one.model_copy(update={"dictionaries": [it for it in one.dictionaries if (one.evaluation, it) not in made]})
        for one in missing
    )
    return [one for one in left if one.dictionaries]
