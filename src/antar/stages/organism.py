"""The stage of studies that make their own model pair: `organism/{base,chat,sham-*}` and the planted truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from antar.core.hashing import code_version
from antar.core.manifest import Fingerprint
from antar.organisms.config import TinyConfig
from antar.organisms.smollm2 import SmolConfig, make_smollm2
from antar.stages.artifact import Artifact, ensure_files
from antar.stages.context import Context, config_slice

_TINY_CODE = ("organisms/config.py", "organisms/grammar.py", "organisms/lexicon", "organisms/tiny.py",
              "organisms/tiny_model.py", "organisms/tiny_texts.py")  # fmt: skip
_SMOLLM2_CODE = ("organisms/smollm2.py",)


def artifacts(context: Context) -> list[Artifact]:
    cfg = context.study.models.organism
    assert cfg is not None  # the pipeline has this stage only for studies with an organism
    from_texts = isinstance(cfg, SmolConfig)
    return [
        Artifact(
            "organism",
            context.folder / "organism",
            Fingerprint(
                inputs={"corpus": context.manifest("corpus").content} if from_texts else {},
                config=config_slice(cfg),
                code=code_version(*(_SMOLLM2_CODE if from_texts else _TINY_CODE)),
            ),
        )
    ]


def make(context: Context) -> None:
    (artifact,) = artifacts(context)
    cfg = context.study.models.organism

    def build() -> tuple[Sequence[Path], Mapping[str, Any]]:
        if isinstance(cfg, TinyConfig):
            from antar.organisms.tiny import make_organism  # brings transformers, which `plan` need not wait for

            make_organism(cfg, artifact.folder)
        elif isinstance(cfg, SmolConfig):
            make_smollm2(cfg, context.texts(), artifact.folder)
        files = [path for path in artifact.folder.rglob("*") if path.is_file() and path != artifact.manifest_path]
        return files, {"kind": cfg.kind if cfg else ""}

    ensure_files(artifact, build)
