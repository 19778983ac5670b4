"""SAEBench's own environment: made on request, and where its evaluations run.

SAEBench needs numpy < 2 and the datasets package below 4, so it cannot stand beside antar. The versions are those
that antar's interop tests ran with. scikit-learn stays below 1.8: later ones take the L1 penalty that sae-probes asks
for as a contradiction of their own default.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from antar.core.atomic import write_json
from antar.core.errors import UserError
from antar.core.progress import say
from antar.stages import saebench_runner

PINS = ("sae-bench==0.6.0", "sae-probes==0.4.2", "sae-lens==6.54.12", "transformer-lens==3.9.0",
        "transformers==5.24.0", "scikit-learn==1.7.2", "numpy==1.26.4")  # fmt: skip
DEFAULT_FOLDER = Path(".cache/saebench")
MARKER = "antar-saebench.json"
"""Written last: the environment is whole."""
RUNNER = Path(saebench_runner.__file__)
NEWEST_PYTHON = (3, 12)
"""numpy < 2 has no wheels for a newer one."""
_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


class Refusal(Exception):
    """An evaluation that cannot be made on a dictionary, as the evaluation itself found; the message says why."""


@dataclass(frozen=True)
class Environment:
    """folder: the virtual environment; versions: of what counts in it."""

    folder: Path
    versions: Mapping[str, str]

    def run(self, job: Mapping[str, Any], work: Path, log: Path, online: bool) -> float:
        """Run one job (saebench_runner.py says what it holds) in the folder `work`; the seconds that it took.

        Raises Refusal for one that cannot be made, and UserError, naming `log`, for one that failed.
        """
        facts = work / "facts.json"
        facts.unlink(missing_ok=True)
        write_json(work / "job.json", {**job, "facts": str(facts.resolve())})
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf-8") as handle:
            code = _wait_for([_python(self.folder), RUNNER, "job.json"], work, _variables(online), handle)
        told = json.loads(facts.read_bytes()) if facts.is_file() else {}
        if "refused" in told:
            raise Refusal(told["refused"])
        if code != 0 or "seconds" not in told:
            raise UserError(
                f"SAEBench's {job['evaluation']} on {job['dictionary']} failed: {_last_line(log)} ({log})"
            )
        return float(told["seconds"])

    def data_sets(self) -> list[str] | None:
        """The data sets of sae-probes, some seconds; None where the environment cannot tell."""
        command = [_python(self.folder), RUNNER, "--datasets"]
        try:
            told = subprocess.run(command, capture_output=True, text=True, env=_variables(False), check=False)
            found = json.loads(told.stdout.strip().rsplit("\n", 1)[-1])
        except (OSError, ValueError):
            return None
        return [str(name) for name in found] if isinstance(found, list) else None


def open_environment(folder: Path) -> Environment:
    """The environment in `folder`. Raises UserError, which says how to make it, where there is none that is whole."""
    try:
        made = json.loads((folder / MARKER).read_bytes())
    except (OSError, ValueError):
        made = None
    if not isinstance(made, dict) or not _python(folder).exists():
        raise UserError(
            f"{folder}: expected SAEBench's own environment, found none that is whole; `antar saebench --setup` "
            "makes it (several minutes, about 3 GB), in another place with --environment"
        )
    told = subprocess.run(
        [_python(folder), RUNNER, "--versions"], capture_output=True, text=True, env=_variables(False), check=False
    )
    if told.returncode != 0:
        raise UserError(f"{folder}: expected a Python that runs, found {told.stderr.strip()[-200:]}; make it again")
    return Environment(folder, json.loads(told.stdout))


def make_environment(folder: Path, python: Path | None = None) -> Environment:
    """Make it in `folder`, with torch as it runs here. One that is half made goes on; one that is whole stays.

    python: of the environment; this one where None
    """
    folder = folder.absolute()
    if folder.exists() and not (folder / "pyvenv.cfg").is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: expected a new or empty folder, found something else; name another --environment")
    if python is None and sys.version_info[:2] > NEWEST_PYTHON:
        raise UserError(
            f"--python: SAEBench needs numpy below 2, which exists for Python {_spoken(NEWEST_PYTHON)} and older, "
            f"found {_spoken(sys.version_info[:2])}; name such a python with --python"
        )
    (folder / MARKER).unlink(missing_ok=True)
    torch = version("torch").split("+")[0]
    say(f"making SAEBench's environment in {folder} (several minutes, about 3 GB)")
    _install([python or Path(sys.executable), "-m", "venv", folder], "a virtual environment")
    pip = [_python(folder), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    _install([*pip, "install", f"torch=={torch}", *PINS], "SAEBench")
    # It names torchvision and imports it nowhere; one built for another torch breaks transformers.
    if _install([_python(folder), "-c", "import torchvision"]):
        _install([*pip, "uninstall", "--yes", "torchvision"], "SAEBench")
    if problem := _install([_python(folder), "-c", "import sae_bench, sae_probes, transformer_lens"]):
        raise UserError(f"{folder}: SAEBench was installed and does not start: {problem}")
    write_json(folder / MARKER, {"pins": [f"torch=={torch}", *PINS]})
    return open_environment(folder)


def _spoken(python: Sequence[int]) -> str:
    return ".".join(map(str, python))


def _python(folder: Path) -> Path:
    return folder.absolute() / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _install(command: Sequence[str | Path], what: str | None = None) -> str:
    """Run it; what it said last where it failed, or a UserError where `what` was to be made."""
    done = subprocess.run(command, capture_output=True, text=True, env=_variables(True), check=False)
    if done.returncode == 0:
        return ""
    told = [line.strip() for line in done.stderr.splitlines() if line.strip() and not line.startswith("WARNING")]
    last = told[-1] if told else f"exit code {done.returncode}"
    if what is not None:
        raise UserError(f"expected to install {what}, found: {last}; the same command goes on from here")
    return last


def _variables(online: bool) -> dict[str, str]:
    """The environment of its processes: nothing of antar's Python, and no network unless asked for."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    # SAEBench takes the commit of whatever repository it is started in for its own.
    kept |= {"WANDB_MODE": "disabled", "TOKENIZERS_PARALLELISM": "false", "GIT_DIR": os.devnull}
    return kept if online else kept | _OFFLINE


def _wait_for(command: Sequence[str | Path], work: Path, variables: Mapping[str, str], output: Any) -> int:
    process = subprocess.Popen(command, cwd=work, env=variables, stdout=output, stderr=subprocess.STDOUT)
    try:
        return process.wait()
    finally:
        if process.poll() is None:  # we are being stopped
            process.terminate()
            process.wait()


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
