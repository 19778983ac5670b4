"""Questions to a language model about a feature, and what its answers mean. Nothing here talks to a server.

Every text is named by an id that means nothing, in an order that tells nothing about the answer. Predictions see no
activation and no truth. An answer that names a text which was not shown, or that contradicts itself, is refused here
(`Call.check`), and the client asks again or records a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from antar.core.hashing import sha256_json
from antar.core.seeds import numpy_rng
from antar.interpret.answers import Answer, LabelAnswer, ValidateAnswer, json_schema
from antar.interpret.answers import SaebenchAnswer as SaebenchReply
from antar.interpret.llm.calls import Call, Outcome, Role
from antar.interpret.llm.config import ModelWorker
from antar.interpret.llm.replies import on_one_line
from antar.interpret.prompting import load_prompt
from antar.interpret.quoting import data_block, named, random_ids, shortened
from antar.interpret.types import (
    Claim,
    Evidence,
    Label,
    Prediction,
    SaebenchAnswer,
    SaebenchCase,
    ShownText,
    ValidationCase,
    Verdict,
)
from antar.interpret.words import normalise

STRONGEST = 10
"""Activations are shown on a scale from 1 to this."""
Row = dict[str, Any]
T = TypeVar("T")


class Questions:
    """What one worker is asked. characters: where a text is cut; seed: the study's."""

    def __init__(self, worker: ModelWorker, characters: int, seed: int) -> None:
        self._worker, self._characters, self._seed = worker, characters, seed

    # -- label ----------------------------------------------------------------------------------------------------

    def label(self, evidence: Evidence) -> Call:
        groups = self._evidence(evidence)
        ids = self._ids("label", evidence.feature, groups)
        examples, everything = ids["active"], [one for group in ids.values() for one in group]

        def check(answer: LabelAnswer) -> str | None:
            if answer.answer == "INCOHERENT":
                return _strange(answer.evidence, everything)
            if not answer.evidence:
                return "COHERENT without evidence"
            return _strange(answer.evidence, examples) or _unusable(answer.label, everything)

        blocks = {
            "active": self._rows(groups["active"], ids["active"], _strength(groups["active"])),
            "silent": self._rows(groups["silent"], ids["silent"]),
            "hard": self._rows(groups["hard"], ids["hard"]),
        }
        return self._call("label", evidence.feature, blocks, LabelAnswer, check, examples)

    def read_label(self, evidence: Evidence, outcome: Outcome) -> Label:
        if outcome.answer is None:
            return Label(evidence.feature, False, None, (), 1, None, "other", (), "", outcome.failed)
        answer = LabelAnswer.model_validate(outcome.answer)
        coherent = answer.answer == "COHERENT"
        real = self._real("label", evidence.feature, self._evidence(evidence))
        examples = {text.text_id for text in evidence.examples}
        return Label(
            feature=evidence.feature,
            coherent=coherent,
            label=on_one_line(answer.label) if coherent else None,
            keywords=(),
            needed=1,
            category=answer.category,
            language=answer.language,
            # What an INCOHERENT answer names among the other texts is evidence of nothing.
            evidence=tuple(dict.fromkeys(real[one] for one in answer.evidence if real[one] in examples)),
            reason="",
        )

    def _evidence(self, evidence: Evidence) -> dict[str, Sequence[ShownText]]:
        # Sorted here, because the prompt says so.
        strongest_first = sorted(evidence.examples, key=lambda text: -text.activation)
        return {"active": strongest_first, "silent": evidence.background, "hard": evidence.hard}

    # -- validate -------------------------------------------------------------------------------------------------

    def validate(self, case: ValidationCase) -> Call:
        feature, standing = case.label.feature, case.label.label or ""
        firing, silent = self._shuffled(feature, case.firing), self._shuffled(feature, case.silent)
        about = self._about(case.label)
        ids = self._ids("validate", about, {"active": firing, "silent": silent}, standing)
        everything = [*ids["active"], *ids["silent"]]

        def check(answer: ValidateAnswer) -> str | None:
            if not _says_something(answer.reason):
                return "a verdict without a reason"
            if answer.verdict == "REVISE":
                new = answer.label.strip()
                if not new or normalise(new) == normalise(standing):
                    return "REVISE without a new label"
                if _unusable(new, everything):
                    return "REVISE to what is no label, or names texts by their ids"
            return _strange(answer.evidence, everything)

        blocks = {
            "label": standing,
            "active": self._rows(firing, ids["active"], _strength(firing)),
            "silent": self._rows(silent, ids["silent"]),
        }
        return self._call("validate", about, blocks, ValidateAnswer, check, everything)

    def read_verdict(self, case: ValidationCase, outcome: Outcome) -> Verdict:
        label = case.label
        standing = label.label or ""
        if outcome.answer is None:
            failed = outcome.failed
            return Verdict(
                label.feature, None, "", standing, label.keywords, label.needed, (), None, None, None, failed
            )
        answer = ValidateAnswer.model_validate(outcome.answer)
        firing, silent = self._shuffled(label.feature, case.firing), self._shuffled(label.feature, case.silent)
        real = self._real("validate", self._about(label), {"active": firing, "silent": silent}, standing)
        revised = answer.verdict == "REVISE"
        return Verdict(
            feature=label.feature,
            verdict=answer.verdict,
            reason=on_one_line(answer.reason),
            label=on_one_line(answer.label) if revised else standing,
            keywords=() if revised else label.keywords,
            needed=1 if revised else label.needed,
            evidence=tuple(dict.fromkeys(real[one] for one in answer.evidence)),
            balanced_accuracy=None,
            low=None,
            high=None,
        )

    def _about(self, label: Label) -> str:
        # A feature may be asked about twice: with its own label, and with one that is known to be wrong.
        return f"{label.feature} {sha256_json(label.label)[:12]}"

    # -- predict --------------------------------------------------------------------------------------------------

    def predict(self, claim: Claim, text: ShownText) -> Call:
        """One text. Nothing that is asked differs between a text that fires the feature and one that does not."""
        shown = {"language": text.language, "text": shortened(text.text, self._characters)}
        return self._call("predict", claim.feature, {"label": claim.label, "text": shown}, None, None, ())

    def read_prediction(self, outcome: Outcome) -> Prediction:
        if outcome.answer is None:
            return Prediction(None, None, outcome.failed)
        return Prediction(bool(outcome.answer["yes"]), outcome.score)

    # -- SAEBench -------------------------------------------------------------------------------------------------

    def saebench(self, case: SaebenchCase) -> Call:
        ids = self._bench_ids(case)

        def check(answer: SaebenchReply) -> str | None:
            return _strange(answer.active, ids)

        # Shuffled, whoever made the case: a place in the list tells nothing of the truth.
        feature = case.claim.feature
        texts, named_by = self._shuffled(feature, case.texts), self._shuffled(feature, ids)
        blocks = {"label": case.claim.label, "texts": self._rows(texts, named_by)}
        return self._call("saebench", feature, blocks, SaebenchReply, check, named_by)

    def read_saebench(self, case: SaebenchCase, outcome: Outcome) -> SaebenchAnswer:
        if outcome.answer is None:
            return SaebenchAnswer(None, outcome.failed)
        named_ids = set(SaebenchReply.model_validate(outcome.answer).active)
        return SaebenchAnswer(tuple(one in named_ids for one in self._bench_ids(case)))

    def _bench_ids(self, case: SaebenchCase) -> tuple[str, ...]:
        """The ids of the texts, in the order of the case."""
        claim = case.claim
        return self._ids("saebench", claim.feature, {"texts": case.texts}, claim.label)["texts"]

    # -- what they share ------------------------------------------------------------------------------------------

    def _ids(
        self, role: str, about: str, groups: Mapping[str, Sequence[ShownText]], label: str = ""
    ) -> dict[str, tuple[str, ...]]:
        texts = [text.text for group in groups.values() for text in group]
        names = random_ids(len(texts), self._seed, f"{role} {about}", [*texts, label])
        found: dict[str, tuple[str, ...]] = {}
        start = 0
        for group, its in groups.items():
            found[group] = names[start : start + len(its)]
            start += len(its)
        return found

    def _real(
        self, role: str, about: str, groups: Mapping[str, Sequence[ShownText]], label: str = ""
    ) -> dict[str, str]:
        """Shown id → id of the text in the corpus."""
        ids = self._ids(role, about, groups, label)
        return {
            name: text.text_id
            for group, its in groups.items()
            for name, text in zip(ids[group], its, strict=True)
        }  # fmt: skip

    def _shuffled(self, feature: str, items: Sequence[T]) -> tuple[T, ...]:
        """So that a place in the list tells nothing. As many items of one feature always have the same order."""
        order = numpy_rng(self._seed, "interpret", "shown", feature).permutation(len(items))
        return tuple(items[i] for i in order)

    def _rows(self, texts: Sequence[ShownText], ids: Sequence[str], strength: Sequence[int] = ()) -> list[Row]:
        rows = [
            {"id": name, "language": text.language, "text": shortened(text.text, self._characters)}
            for name, text in zip(ids, texts, strict=True)
        ]
        return [{**row, "activation": one} for row, one in zip(rows, strength, strict=True)] if strength else rows

    def _call(
        self,
        role: Role,
        about: str,
        blocks: Mapping[str, Any],
        answer: type[Answer] | None,
        check: Callable[[Any], str | None] | None,
        ids: Sequence[str],
    ) -> Call:
        prompt = load_prompt(role, self._worker.prompts)
        # The block's own name is part of its nonce, so that equal contents have two nonces.
        places = {name: data_block(value, self._seed, f"{role} {about} {name}") for name, value in blocks.items()}
        system, user = prompt.filled(places)
        return Call(
            role=role,
            about=about,
            prompt=prompt.name,
            prompt_sha256=prompt.sha256,
            inputs=dict(places),
            system=system,
            user=user,
            answer=answer,
            schema=None if answer is None else json_schema(answer, ids if self._worker.name_ids else None),
            check=check or (lambda _: None),
        )


def _strength(texts: Sequence[ShownText]) -> list[int]:
    """Activations from 1 to STRONGEST, relative to the strongest shown."""
    most = max((text.activation for text in texts), default=0.0)
    return [max(1, round(STRONGEST * text.activation / most)) if most > 0 else 1 for text in texts]


def _strange(named_ids: Sequence[str], shown: Sequence[str]) -> str | None:
    strange = [one for one in named_ids if one not in set(shown)]
    return f"{len(strange)} ids that were not shown, or not among the texts that may be evidence" if strange else None


def _says_something(text: str) -> bool:
    return any(character.isalpha() for character in text)


def _unusable(label: str, ids: Sequence[str]) -> str | None:
    if not _says_something(label) or label.strip().upper() in ("COHERENT", "INCOHERENT"):
        return "COHERENT without a label"
    return "a label that names texts by their ids" if named(label, ids) else None
