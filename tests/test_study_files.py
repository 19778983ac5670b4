"""The study files that ship: all parse, and rq1 says what the published study did, number for number."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from antar.core.errors import UserError
from antar.study import load_study, parse_study, study_yaml
from antar.templates import study_template, write_study_file

STUDIES = Path(__file__).parent.parent / "studies"


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_studies_parse_and_resolve_to_themselves(path):
    study = load_study(path)
    assert study.study == path.stem
    assert parse_study(yaml.safe_load(study_yaml(study)), "resolved") == study


def test_rq1_is_the_published_study():
    study = load_study(STUDIES / "rq1.yaml")
    assert (study.models.base.path, study.models.chat.path) == ("Qwen/Qwen1.5-1.8B", "Qwen/Qwen1.5-1.8B-Chat")
    updesh, snli, iitb, dosa = study.corpus.sources
    assert updesh.n == {"en": 15000, "hi": 15000}
    assert (updesh.repo, updesh.config) == ("microsoft/Updesh_beta", "cultural_multihop_reasoning")
    assert (snli.repo, snli.n, snli.min_characters) == ("stanfordnlp/snli", 5000, 11)
    assert (iitb.repo, iitb.n, iitb.min_words, iitb.max_words) == ("cfilt/iitb-english-hindi", 5000, 10, 50)
    assert dosa.source == "dosa"
    extract = study.extract
    assert (extract.layers, extract.max_tokens, extract.dtype, extract.pooling) == (
        (6, 12, 18),
        512,
        "float16",
        "mean",
    )
    # Its shams learn what the corpus left of the very sources that its controls come from.
    assert list(study.models.made_shams) == ["a", "b"]
    for made in study.models.made_shams.values():
        learnt = [source.model_copy(update={"n": None}) for source in made.texts]
        assert learnt == [source.model_copy(update={"n": None}) for source in (snli, iitb)]
    sae = study.dictionaries
    assert (sae.preset, sae.n_latents, sae.k, sae.auxk_coefficient, sae.k_aux) == ("published", 8192, 256, 0.03, 512)
    assert (sae.lr, sae.weight_decay, sae.warmup_steps, sae.clip, sae.batch) == (1e-4, 0.01, 1000, 1.0, 256)
    assert (sae.max_epochs, sae.check_every_epochs, sae.dead_window_steps) == (100, 5, 1000)
    assert (sae.reset_every_steps, sae.dead_share, sae.train_on, sae.validate_on) == (
        3000,
        0.001,
        "cultural",
        "control",
    )
    interpret = study.interpret
    assert interpret.labeller.model == "Qwen/Qwen1.5-32B-Chat"
    assert interpret.validator.model == "Qwen/Qwen3-30B-A3B"
    assert (interpret.features_per_site, interpret.examples, interpret.characters) == (400, 20, 300)
    criteria = study.criteria
    assert (criteria.mse, criteria.sparsity, criteria.d) == (0.05, 10, 0.8)
    assert (criteria.predictive_validity, criteria.coherence, criteria.agreement, criteria.stability) == (
        0.70, 0.60, 0.70, 0.80,
    )  # fmt: skip


def test_the_template_is_a_study_with_every_setting(tmp_path):
    path = tmp_path / "study.yaml"
    write_study_file(path)
    head = load_study(path)
    assert head.study == "my-study"
    # With every commented setting switched on, it is still a study, and still the same one.
    lines = study_template().splitlines()
    tail = next(i for i, line in enumerate(lines) if line == "# extract:")
    switched_on = "\n".join(lines[:tail] + [line.removeprefix("# ") for line in lines[tail:]])
    path.with_name("on.yaml").write_text(switched_on, encoding="utf-8")
    assert load_study(path.with_name("on.yaml")) == head
    with pytest.raises(UserError, match="exists already"):
        write_study_file(path)


BROKEN = {
    "an unknown key": ("dictionaries: {n_latent: 8}", "dictionaries.n_latent: unknown key"),
    "a wrong type": ("dictionaries: {k: many}", "dictionaries.k"),
    "k above the width": ("dictionaries: {k: 9, n_latents: 8}", "k: expected at most n_latents = 8, found 9"),
    "no pair": ("models: {base: {path: x}}", "give both base and chat, or an organism"),
    "an infinite number": ("dictionaries: {lr: .inf}", "dictionaries.lr"),
    "a truth without a sham": (
        "models: {organism: {kind: tiny, shams: []}}",
        "truth: its threshold comes from a sham",
    ),
    "a layer the organism lacks": ("extract: {layers: [9]}", "expected layers below 4"),
    "a name that is no folder": ("study: ../up", "it names the run folder"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_study_is_one_line_that_says_where(name):
    line, expected = BROKEN[name]
    raw = yaml.safe_load((STUDIES / "demo.yaml").read_text(encoding="utf-8")) | yaml.safe_load(line)
    with pytest.raises(UserError) as caught:
        parse_study(raw, "studies/x.yaml")
    message = str(caught.value)
    assert message.startswith("studies/x.yaml: ")
    assert expected in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"study: [", "expected YAML"),
        (b"study: a\nseed: 1\nseed: 2\n", "line 3.*the key 'seed' twice"),
        (b"- a\n- b\n", "expected a mapping"),
        (b"\xff\xfe\x00", "expected"),
    ],
)
def test_what_is_not_a_study_file_is_one_line(tmp_path, content, expected):
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=expected) as caught:
        load_study(path)
    assert "\n" not in str(caught.value)


def test_on_and_no_are_words(tmp_path):
    path = tmp_path / "x.yaml"
    text = (
        (STUDIES / "demo.yaml")
        .read_text(encoding="utf-8")
        .replace("  split:", "  match: {on: [length], bins: 3}\n  split:")
        .replace("{base: tiny base,", "{base: no, chat: yes} #")
    )
    path.write_text(text, encoding="utf-8")
    study = load_study(path)
    assert study.corpus.match.on == ["length"]
    assert study.names == {"base": "no", "chat": "yes"}


def test_a_missing_study_file_names_init(tmp_path):
    with pytest.raises(UserError, match="antar init"):
        load_study(tmp_path / "none.yaml")
