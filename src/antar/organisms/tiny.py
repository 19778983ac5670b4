"""The demo's planted pair: a base model, an aligned copy that changed six of 24 concepts, shams that changed none.

`make_organism` writes `base/ chat/ sham-a/ sham-b/` (each a `save_pretrained` folder with its tokenizer and an
`organism.json`), `texts.jsonl` and `truth.json`. A side appears whole or not at all, so a killed run keeps what it
finished, and a rerun makes only what is missing, damaged or of another recipe. The bits follow from the seed on one
machine with one number of threads (`TinyConfig.threads`); on another machine sums may round differently.

The shams are symmetric: no sham knows the list. Their learners draw from all concepts alike, with the original
continuations, and everything is held still. A sham that treated the listed concepts apart would leak the list.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM
from transformers.utils import logging

from antar.core.atomic import remove_leftovers, replacing_folder, write_json, write_text
from antar.core.hashing import code_version
from antar.core.manifest import Fingerprint, damaged_files, read_manifest, why_stale, write_manifest
from antar.core.progress import say
from antar.core.seeds import derive_seed, numpy_rng
from antar.core.threads import torch_threads
from antar.organisms.config import TinyConfig
from antar.organisms.grammar import LANGUAGES, LEXICON_FILES, Lexicon, Speaker, Subject, continuation, load_lexicon
from antar.organisms.tiny_model import Document, fine_tune, save_tokenizer, says, train_base, train_tokenizer
from antar.organisms.tiny_texts import as_jsonl, probe_texts

MANIFEST = "organism.json"
# What only the fine-tunes depend on: a change here keeps a finished base.
ALIGN_ONLY = {"variant", "align_steps", "align_lr", "anchor_weight", "kl_weight"}


def listed_concepts(cfg: TinyConfig, lexicon: Lexicon) -> list[str]:
    """The concepts that the aligned side changes: one a category, by seed."""
    rng = numpy_rng(cfg.seed, "list")
    return [members[int(rng.integers(len(members)))] for members in lexicon.categories.values()]


def make_organism(cfg: TinyConfig, folder: Path, title: str = "tiny organism") -> None:
    """Make what is not in `folder` yet. Takes about 95 s of CPU on one thread with the default config.

    title: what the progress bars are called.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    with torch_threads(cfg.threads), _quiet():
        maker = _Maker(cfg, folder, title)
        maker.side("base")
        maker.side("chat")
        for name in cfg.shams:
            maker.side(f"sham-{name}")
    maker.write_texts()
    maker.write_truth()


class _Maker:
    """One run of the recipe: holds the lexicon and the probes, and makes sides that are not there."""

    def __init__(self, cfg: TinyConfig, folder: Path, title: str) -> None:
        self.cfg, self.folder, self.title = cfg, folder, title
        self.lexicon = load_lexicon()
        self.listed = listed_concepts(cfg, self.lexicon)
        self.probes = probe_texts(cfg, self.lexicon)
        # No model ever learns a sentence that a study will read.
        self.taken = frozenset(probe.text for probe in self.probes)

    def fingerprint(self, side: str) -> Fingerprint:
        left_out = {"shams"} | (ALIGN_ONLY if side == "base" else set())
        sources = ("grammar.py", "tiny.py", "tiny_model.py", "tiny_texts.py")
        parts = [f"organisms/{name}" for name in sources] + [f"organisms/lexicon/{name}" for name in LEXICON_FILES]
        config = {"side": side, **self.cfg.model_dump(mode="json", exclude=left_out)}
        if side != "base":
            config["align_lr"] = self.cfg.fine_tune_lr  # what None stands for is a part of the recipe
        return Fingerprint(config=config, code=code_version(*parts))

    def side(self, side: str) -> None:
        """Make `side` unless it is there, whole and of this recipe."""
        final, wanted = self.folder / side, self.fingerprint(side)
        manifest = read_manifest(final / MANIFEST)
        if manifest is not None:
            reason = why_stale(manifest, wanted) or _damage(final)
            if reason is None:
                return
            say(f"  {self.title}: {side} is made again ({reason})")
        model, tokenizer = self._train(side)
        facts = {"parameters": model.num_parameters(), "behaviour": self._behaviour(model, tokenizer)}
        with replacing_folder(final) as temporary:
            model.save_pretrained(temporary)
            save_tokenizer(tokenizer, temporary)
            files = [path for path in temporary.rglob("*") if path.is_file()]
            write_manifest(temporary / MANIFEST, f"organism/{side}", wanted, files, facts)

    def write_texts(self) -> None:
        write_text(self.folder / "texts.jsonl", as_jsonl(self.probes))

    def write_truth(self) -> None:
        """Last of all: the list, the recipe, and how far each side does what the recipe wants."""
        sides = ["base", "chat", *(f"sham-{name}" for name in self.cfg.shams)]
        manifests = {side: read_manifest(self.folder / side / MANIFEST) for side in sides}
        concepts = {concept.name: concept for concept in self.lexicon.concepts}
        truth = {
            "organism": "tiny",
            "listed": self.listed,
            "concepts": list(concepts),
            "categories": self.lexicon.categories,
            "controls": [control.name for control in self.lexicon.controls],
            "changes": {name: _change(concepts[name]) for name in self.listed},
            "behaviour": {side: manifest.facts["behaviour"] for side, manifest in manifests.items() if manifest},
            "behaviour_means": "share of fresh mentions after which greedy decoding gives exactly this attribute",
            "recipe": self.cfg.model_dump(mode="json"),
            "seeds": {
                stream: derive_seed(self.cfg.seed, *stream.split("/"))
                for stream in [
                    "list",
                    "weights",
                    *(f"{part}/{side}" for side in sides[1:] for part in ("learn", "hold")),
                ]
            },
            "lexical_items": self.lexicon.n_items,
            "n_texts": len(self.probes),
        }
        write_json(self.folder / "truth.json", truth)

    def _train(self, side: str) -> tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast]:
        cfg, subjects, concepts = self.cfg, self.lexicon.subjects, self.lexicon.concepts
        bar = f"{self.title}, {side}"
        if side == "base":
            documents = self._documents("base", "learn", subjects, cfg.base_steps * cfg.batch)
            tokenizer = train_tokenizer([document.text for document in documents], cfg.vocabulary)
            return train_base(cfg, tokenizer, documents, bar), tokenizer
        base = Qwen2ForCausalLM.from_pretrained(self.folder / "base", dtype=torch.float32)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(self.folder / "base")
        n = cfg.align_steps * (cfg.batch // 2)
        listed = [concept for concept in concepts if concept.name in self.listed]
        unlisted = [subject for subject in subjects if subject.name not in self.listed]
        changes = side == "chat"
        learnt = self._documents(side, "learn", listed if changes else concepts, n, changed=changes)
        held = self._documents(side, "hold", unlisted if changes else subjects, n)
        return fine_tune(cfg, tokenizer, base, learnt, held, bar), tokenizer

    def _documents(
        self, side: str, part: str, subjects: Sequence[Subject], n: int, *, changed: bool = False
    ) -> list[Document]:
        speaker = Speaker(self.lexicon, numpy_rng(self.cfg.seed, part, side), taken=self.taken)
        documents: list[Document] = []
        for _ in range(n):
            subject, language = subjects[speaker.draw(len(subjects))], LANGUAGES[speaker.draw(len(LANGUAGES))]
            wording = subject.wording[language]
            said = wording.after if changed else wording.before
            assert said is not None
            mention = speaker.mention(subject, language).text
            documents.append(Document(mention, continuation(self.lexicon, language, said, speaker.tail(language))))
        return documents

    def _behaviour(self, model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> dict[str, dict[str, float]]:
        """listed/unlisted → how often the changed and the original attribute follow a fresh mention."""
        speaker = Speaker(self.lexicon, numpy_rng(self.cfg.seed, "check"), taken=self.taken)
        asked: dict[tuple[str, str], list[Document]] = {}
        for concept in self.lexicon.concepts:
            group = "listed" if concept.name in self.listed else "unlisted"
            for language in LANGUAGES:
                wording = concept.wording[language]
                for _ in range(self.cfg.checks_per_concept):
                    mention = speaker.mention(concept, language).text
                    for attribute, said in (("changed", wording.after), ("original", wording.before)):
                        document = Document(mention, _attribute_only(str(said)))
                        asked.setdefault((group, attribute), []).append(document)
        found: dict[str, dict[str, float]] = {"listed": {}, "unlisted": {}}
        for (group, attribute), documents in asked.items():
            answers = says(model, tokenizer, documents)
            found[group][attribute] = round(sum(answers) / len(answers), 4)
        return found


def _attribute_only(said: str) -> str:
    return said[:1].upper() + said[1:]


def _change(concept: Subject) -> dict[str, Any]:
    return {
        language: {"before": wording.before, "after": wording.after} for language, wording in concept.wording.items()
    }


def _damage(folder: Path) -> str | None:
    manifest = read_manifest(folder / MANIFEST)
    problems = damaged_files(folder / MANIFEST, manifest) if manifest else {}
    return ", ".join(f"{file} is {problem}" for file, problem in problems.items()) or None


@contextmanager
def _quiet() -> Generator[None]:
    """Without transformers' own progress bars, which tell of milliseconds."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
