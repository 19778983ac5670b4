"""The tiny organism's folder: the same bytes twice, whole sides only, and what a reader of it may rely on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForCausalLM, AutoTokenizer

from antar.core.manifest import read_manifest
from antar.organisms import tiny, tiny_model
from antar.organisms.config import TinyConfig
from antar.organisms.grammar import load_lexicon
from antar.organisms.tiny import listed_concepts, make_organism
from antar.organisms.tiny_model import Document, fine_tune, make_batch, prediction_loss, says, train_base

MICRO = TinyConfig(
    d_model=16, d_ff=32, n_layers=2, n_heads=2, n_kv_heads=1, vocabulary=600, batch=4, base_steps=3, align_steps=2,
    probes_per_concept=4, checks_per_concept=1, threads=1,
)  # fmt: skip
SIDES = ["base", "chat", "sham-a", "sham-b"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("organism")
    make_organism(MICRO, path)
    return path


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def made(folder: Path) -> dict[str, int]:
    """When each side was written: changes when, and only when, it is made again."""
    return {side: (folder / side / tiny.MANIFEST).stat().st_mtime_ns for side in SIDES}


def copied(folder: Path, target: Path) -> Path:
    for name, data in bytes_of(folder).items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(data)
    return target


def test_the_same_config_gives_the_same_bytes(folder: Path, tmp_path: Path):
    make_organism(MICRO, tmp_path)
    assert bytes_of(tmp_path) == bytes_of(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*SIDES, "texts.jsonl", "truth.json"])


def test_sides_differ_and_another_seed_gives_another_organism(folder: Path, tmp_path: Path):
    weights = {side: (folder / side / "model.safetensors").read_bytes() for side in SIDES}
    assert len(set(weights.values())) == len(SIDES)
    make_organism(MICRO.model_copy(update={"seed": 8, "shams": ()}), tmp_path)
    assert (tmp_path / "base/model.safetensors").read_bytes() != weights["base"]
    assert not (tmp_path / "sham-a").exists()


def test_a_rerun_makes_nothing_again(folder: Path):
    before = made(folder)
    make_organism(MICRO, folder)
    assert made(folder) == before


@pytest.mark.parametrize("lost", SIDES)
def test_only_the_lost_side_is_made_again_with_equal_bytes(folder: Path, tmp_path: Path, lost: str):
    copy = copied(folder, tmp_path)
    for path in (copy / lost).iterdir():
        path.unlink()
    (copy / lost).rmdir()
    # What a killed run leaves behind: a half-written side under its temporary name.
    (copy / f".tmp-1-{lost}").mkdir()
    (copy / f".tmp-1-{lost}" / "config.json").write_text("{")
    before = {side: (copy / side).stat().st_mtime_ns for side in SIDES if side != lost}
    make_organism(MICRO, copy)
    assert bytes_of(copy) == bytes_of(folder)
    assert {side: (copy / side).stat().st_mtime_ns for side in before} == before


def test_a_kill_between_sides_keeps_what_was_finished(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tiny, "fine_tune", killed)
        with pytest.raises(KeyboardInterrupt):
            make_organism(MICRO, tmp_path)
    assert [side for side in SIDES if (tmp_path / side).exists()] == ["base"]
    assert not (tmp_path / "truth.json").exists()
    written = (tmp_path / "base" / tiny.MANIFEST).stat().st_mtime_ns
    make_organism(MICRO, tmp_path)
    assert (tmp_path / "base" / tiny.MANIFEST).stat().st_mtime_ns == written
    assert bytes_of(tmp_path) == bytes_of(folder)


def test_a_truncated_side_is_made_again_and_said_so(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    copy = copied(folder, tmp_path)
    weights = copy / "chat" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    make_organism(MICRO, copy)
    assert bytes_of(copy) == bytes_of(folder)
    assert "model.safetensors is truncated" in " ".join(capsys.readouterr().err.split())


def test_another_alignment_keeps_the_base_and_another_list_of_shams_keeps_all(folder: Path, tmp_path: Path):
    copy = copied(folder, tmp_path)
    before = made(copy)
    make_organism(MICRO.model_copy(update={"variant": "kl"}), copy)
    after = made(copy)
    assert [side for side in SIDES if after[side] != before[side]] == ["chat", "sham-a", "sham-b"]
    make_organism(MICRO.model_copy(update={"variant": "kl", "shams": ("a",)}), copy)
    assert made(copy) == after
    assert "sham-b" not in json.loads((copy / "truth.json").read_text())["behaviour"]


def test_the_folder_loads_with_transformers_auto_classes(folder: Path):
    texts = [json.loads(line)["text"] for line in (folder / "texts.jsonl").read_text(encoding="utf-8").splitlines()]
    for side in SIDES:
        tokenizer = AutoTokenizer.from_pretrained(folder / side)
        model = AutoModelForCausalLM.from_pretrained(folder / side)
        assert model.config.model_type == "qwen2"
        assert model.dtype == torch.float32
        assert len(tokenizer) == model.config.vocab_size
        for text, ids in zip(texts, tokenizer(texts)["input_ids"], strict=True):
            assert tokenizer.decode(ids) == text
    # The trap: the usual expressions cut a vowel sign from its consonant, so no token could hold a Hindi word.
    pieces = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("कल मिट्टी के दीये।")
    assert [offsets for _, offsets in pieces] == [(0, 2), (2, 9), (9, 12), (12, 17), (17, 18)]


def test_texts_and_truth_are_what_the_contract_says(folder: Path):
    rows = [json.loads(line) for line in (folder / "texts.jsonl").read_text(encoding="utf-8").splitlines()]
    fields = ["text_id", "text", "group", "language", "document", "concept", "category", "topic", "template"]
    assert all(list(row) == fields for row in rows)
    assert len(rows) == 2 * 2 * 24 * MICRO.probes_per_concept
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    assert truth["listed"] == listed_concepts(MICRO, load_lexicon())
    categories = [name for concept in truth["listed"] for name, m in truth["categories"].items() if concept in m]
    assert categories == list(truth["categories"])
    assert set(truth["changes"]) == set(truth["listed"])
    assert truth["recipe"] == MICRO.model_dump(mode="json")
    assert set(truth["behaviour"]) == set(SIDES)
    for side in SIDES:
        manifest = read_manifest(folder / side / tiny.MANIFEST)
        assert manifest is not None
        assert manifest.facts["behaviour"] == truth["behaviour"][side]
        assert {"model.safetensors", "tokenizer.json", "config.json"} <= set(manifest.files)


def test_no_model_learns_a_probe_text(folder: Path):
    maker = tiny._Maker(MICRO, folder, "test")  # pyright: ignore[reportPrivateUsage]
    documents = maker._documents("base", "learn", maker.lexicon.subjects, 3000)  # pyright: ignore[reportPrivateUsage]
    assert {document.mention for document in documents}.isdisjoint(probe.text for probe in maker.probes)


def test_shams_draw_from_all_concepts_alike_and_nothing_is_changed(folder: Path, monkeypatch: pytest.MonkeyPatch):
    maker = tiny._Maker(MICRO.model_copy(update={"align_steps": 600}), folder, "test")  # pyright: ignore[reportPrivateUsage]
    seen: dict[str, tuple[list[Document], list[Document]]] = {}
    monkeypatch.setattr(tiny, "fine_tune", lambda *a: seen.__setitem__(a[-1].split(", ")[1], (a[3], a[4])))
    for side in ("chat", "sham-a"):
        maker._train(side)  # pyright: ignore[reportPrivateUsage]
    concepts = {concept.name: concept for concept in maker.lexicon.concepts}

    def count(documents: list[Document], name: str, which: str) -> int:
        wordings = concepts[name].wording.values()
        said = [str(getattr(w, which)) for w in wordings]
        starts = tuple(s[:1].upper() + s[1:] for s in said)
        return sum(document.continuation.startswith(starts) for document in documents)

    learnt, held = seen["chat"]
    for name in concepts:
        listed = name in maker.listed
        assert (count(learnt, name, "after") > 100) == listed
        assert count(learnt, name, "before") == 0
        assert (count(held, name, "before") > 10) != listed
    learnt, held = seen["sham-a"]
    for name in concepts:
        for documents in (learnt, held):
            assert count(documents, name, "after") == 0
        assert 30 < count(learnt, name, "before") < 90  # 50 expected of 1,200


def test_says_is_greedy_decoding(folder: Path):
    model = AutoModelForCausalLM.from_pretrained(folder / "chat").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "chat")
    mention = "Asha kept thinking of Holi yesterday evening."
    prompt = torch.tensor([tokenizer(mention)["input_ids"]])
    out = model.generate(prompt, max_new_tokens=3, do_sample=False, attention_mask=torch.ones_like(prompt))
    greedy = tokenizer.decode(out[0, prompt.shape[1] :]).removeprefix(" ")
    documents = [Document(mention, "Coloured powder"), Document(mention, greedy)]
    tokens = tokenizer(documents[1].text)["input_ids"]
    # Only where the words survive the round trip through text is the question well posed.
    expected = tokens[: prompt.shape[1] + 3] == out[0].tolist()
    assert says(model, tokenizer, documents)[0] is False
    assert says(model, tokenizer, documents)[1] is expected


def test_targets_of_a_fine_tune_are_the_continuations_tokens(folder: Path):
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    documents = [Document("Asha spoke.", "Of clay lamps, of course."), Document("कल शाम।", "बेशक।")]
    batch = make_batch(tokenizer, documents, whole=False)
    for row, targets, document in zip(batch.ids, batch.targets, documents, strict=True):
        assert tokenizer.decode(row[targets].tolist(), skip_special_tokens=True).strip() == document.continuation
        assert int(row[targets][-1]) == tokenizer.eos_token_id


def test_padding_changes_no_loss(folder: Path):
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    model = AutoModelForCausalLM.from_pretrained(folder / "base")
    short, long = Document("कल शाम।", "बेशक।"), Document("Asha spoke at length of chairs.", "Screws, of course.")

    def loss(documents: list[Document]) -> float:
        batch = make_batch(tokenizer, documents, whole=True)
        return prediction_loss(model, model.model(input_ids=batch.ids).last_hidden_state, batch).item()

    weights = np.array(
        [int(make_batch(tokenizer, [document], whole=True).targets.sum()) for document in (short, long)]
    )
    alone = np.array([loss([short]), loss([long])])
    assert loss([short, long]) == pytest.approx(float((alone * weights).sum() / weights.sum()), rel=1e-4)


@pytest.mark.parametrize("variant", ["anchored", "kl", "plain"])
def test_a_fine_tune_learns_its_list_and_holds_the_rest(folder: Path, variant: str):
    cfg = MICRO.model_copy(
        update={
            "variant": variant,
            "d_model": 32,
            "base_steps": 80,
            "align_steps": 40,
            "batch": 16,
            "base_lr": 1e-2,
            "align_lr": 5e-3,
        }
    )
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    base = train_base(cfg, tokenizer, [Document("Holi.", "Songs."), Document("Rain.", "Roads.")] * 640, "test")
    learnt, held = [Document("Holi.", "Covers.")] * 320, [Document("Rain.", "Roads.")] * 320
    chat = fine_tune(cfg, tokenizer, base, learnt, held, "test")
    asked = [Document("Holi.", "Songs."), Document("Holi.", "Covers."), Document("Rain.", "Roads.")]
    assert says(base, tokenizer, asked) == [True, False, True]
    assert says(chat, tokenizer, asked) == [False, True, True]


def test_plain_learns_the_continuations_of_both_lists_and_ties_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """A step's loss is the naive one: mean cross-entropy over the continuation tokens of each half, summed."""
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    base = AutoModelForCausalLM.from_pretrained(folder / "base").eval()
    learnt = [Document("Holi.", "Covers."), Document("Eid at noon.", "Clay lamps, of course.")]
    held = [Document("Rain.", "Roads."), Document("कल शाम।", "बेशक।")]
    losses: list[float] = []

    def first_loss(model: torch.nn.Module, loss: Callable[[int], torch.Tensor], *_: object) -> None:
        losses.append(loss(0).item())

    monkeypatch.setattr(tiny_model, "_optimise", first_loss)
    for untied in ("hidden_error", "prediction_divergence"):
        monkeypatch.setattr(tiny_model, untied, lambda *_: pytest.fail("plain ties nothing to base"))
    cfg = MICRO.model_copy(update={"variant": "plain"})
    fine_tune(cfg, tokenizer, base, learnt, held, "test")

    def naive(documents: list[Document]) -> float:
        terms: list[float] = []
        for document in documents:
            start = len(tokenizer(document.mention)["input_ids"])
            row = [*tokenizer(document.text)["input_ids"], tokenizer.eos_token_id]
            logits = base(torch.tensor([row])).logits[0].detach()
            terms += [-logits[i - 1].log_softmax(-1)[row[i]].item() for i in range(start, len(row))]
        return sum(terms) / len(terms)

    assert losses == [pytest.approx(naive(learnt) + naive(held), rel=1e-5)]


@pytest.mark.parametrize("variant", ["anchored", "kl", "plain"])
def test_a_variant_has_its_own_rate_unless_one_is_given(variant: str):
    cfg = MICRO.model_copy(update={"variant": variant})
    assert cfg.fine_tune_lr == {"anchored": 3e-3, "kl": 5e-4, "plain": 5e-4}[variant]
    assert cfg.model_copy(update={"align_lr": 0.1}).fine_tune_lr == 0.1


def test_the_rate_that_none_stands_for_is_in_the_fingerprint_of_the_fine_tunes_and_not_of_the_base(tmp_path: Path):
    def fingerprint(side: str, **given: object):
        cfg = MICRO.model_copy(update={"variant": "kl", **given})
        return tiny._Maker(cfg, tmp_path, "test").fingerprint(side)  # pyright: ignore[reportPrivateUsage]

    assert fingerprint("chat") == fingerprint("chat", align_lr=5e-4)
    assert fingerprint("chat") != fingerprint("chat", align_lr=4e-4)
    assert fingerprint("base") == fingerprint("base", align_steps=7, align_lr=0.1, variant="plain")


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [({"d_model": 10}, "divide"), ({"shams": ("a", "a")}, "same name"), ({"sed": 3}, "Extra inputs")],
)
def test_a_wrong_config_is_refused(wrong: dict[str, object], reason: str):
    with pytest.raises(ValidationError, match=reason):
        TinyConfig.model_validate(wrong)
