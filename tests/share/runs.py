"""The made-up run of `fake_run`, with manifests as a real one has, and with what must not leave a machine."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from antar.core.atomic import write_json, write_text
from antar.core.hashing import sha256_json
from antar.core.manifest import Fingerprint, write_manifest
from fake_run import write_fake_run

HOME = "/home/someone/secret-project"


def shared_run(folder: Path) -> Path:
    """A run whose study and lock file name folders of a machine."""
    write_fake_run(folder)
    study = yaml.safe_load((folder / "study.yaml").read_text(encoding="utf-8"))
    study["models"] |= {"organism": None, "base": {"path": "Qwen/Qwen1.5-1.8B", "revision": None},
                        "chat": {"path": f"{HOME}/models/my-chat", "revision": None}}  # fmt: skip
    study["models"].pop("names")
    study["corpus"]["sources"] = [{"source": "files", "paths": [f"{HOME}/texts/all.jsonl"]}]
    write_text(folder / "study.yaml", yaml.safe_dump(study, allow_unicode=True, sort_keys=False))
    lock = json.loads((folder / "study.lock.json").read_bytes())
    lock |= {"from_folder": f"{HOME}/hub", "revisions": {"Qwen/Qwen1.5-1.8B@main": "7" * 40}}
    write_json(folder / "study.lock.json", lock | {"seal": sha256_json(lock)})
    for place in sorted((folder / "dictionaries").iterdir()):
        files = sorted(path for path in place.iterdir() if path.name != "manifest.json")
        fingerprint = Fingerprint(inputs={f"file {HOME}/x": "0"}, config={"n_latents": 24, "k": 4})
        write_manifest(
            place / "manifest.json", f"dictionaries/{place.name}", fingerprint, files, {"from": HOME + "/y"}
        )
    return folder
