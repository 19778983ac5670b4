"""To the hub and back, against a stand-in: pinned, whole, without texts or paths; one line for what goes wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard, constants
from runs import HOME
from stand_in_hub import READER, WRITER, Hub

from antar.core.errors import UserError
from antar.core.manifest import read_manifest
from antar.dictionaries import load_dictionary
from antar.run import load_run
from antar.share.parcel import SHARE_NAME
from antar.share.pull import PULLED_NAME, pull_run
from antar.share.push import Push, push_run
from micro import antar_command, quiet_environment

REPO = "somebody/a-run"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    made = Hub()
    settings = {"ENDPOINT": made.url, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True,
                "HUGGINGFACE_CO_URL_TEMPLATE": made.url + "/{repo_id}/resolve/{revision}/{filename}",
                "HF_TOKEN_PATH": str(tmp_path / "no-token"), "HF_HUB_CACHE": str(tmp_path / "cache")}  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_TOKEN", WRITER)
    yield made
    made.close()


def checksums(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_goes_to_the_hub_and_comes_back_pinned(fake, tmp_path, hub, capsys):
    said = push_run(fake, REPO, Push(license="apache-2.0"))
    sha, files = hub.files("model", REPO)
    assert said.endswith(f"to {REPO}@{sha}") and hub.private["model", REPO]
    assert len(hub.repositories["model", REPO]["main"]) == 2, "the repository's own commit, and one of the run"
    assert "texts and examples stayed here" in capsys.readouterr().err
    pull_run(REPO, tmp_path / "back")
    assert f"main is {sha} today" in capsys.readouterr().err
    back = checksums(tmp_path / "back")
    pulled = json.loads(back.pop(PULLED_NAME))
    assert pulled == {"from": REPO, "kind": "model", "asked": "main", "revision": sha}
    assert back == {name: data for name, data in files.items() if name != ".gitattributes"}
    ours, theirs = load_run(fake), load_run(tmp_path / "back")
    assert theirs.features.equals(ours.features) and theirs.contrasts.equals(ours.contrasts)
    assert theirs.criteria == ours.criteria and theirs.labels.equals(ours.labels)
    acts_nd = ours.activations("base", 1)
    codes = [run.dictionary("base.layer01").encode(acts_nd).values_nk for run in (ours, theirs)]
    np.testing.assert_array_equal(*codes)
    with pytest.raises(UserError, match="the push of this run left texts and examples out"):
        _ = theirs.texts
    with pytest.raises(UserError, match="pushed with --with-texts"):
        _ = theirs.examples
    with pytest.raises(UserError, match="not made yet"):
        theirs.activations("base", 1)
    # What is pinned stays what it was when somebody pushes again.
    hub.commit("model", REPO, {"study.yaml": b"study: another\n"})
    pull_run(f"{REPO}@{sha}", tmp_path / "pinned")
    assert checksums(tmp_path / "pinned") | {PULLED_NAME: b""} == back | {PULLED_NAME: b""}
    with pytest.raises(
        UserError, match=r"study.yaml: expected the file that was pushed, found it (truncated|edited)"
    ):
        pull_run(REPO, tmp_path / "changed")
    assert not (tmp_path / "changed").exists() and not list(tmp_path.glob(".antar-pull-*"))


def test_nothing_of_this_machine_goes_along(fake, tmp_path, hub):
    push_run(fake, REPO, Push())
    _, files = hub.files("model", REPO)
    for name, data in files.items():
        assert HOME.encode() not in data and b"someone" not in data, name
    assert not {"corpus/texts.parquet", "features/examples.parquet"} & set(files)
    assert b"my-chat" in files["study.yaml"], "of a path the last name stays"
    for name in [name for name in files if name.endswith("manifest.json")]:
        (tmp_path / "manifest.json").write_bytes(files[name])
        assert read_manifest(tmp_path / "manifest.json") is not None, f"{name} is sealed again"


def test_a_licence_that_the_hub_does_not_know_is_named(fake, hub, capsys):
    with pytest.raises(UserError, match=r"--license: expected .* found 'my-licence'") as refused:
        push_run(fake, REPO, Push(license="my-licence"))
    assert "\n" not in str(refused.value) and "stayed here" not in capsys.readouterr().err


def test_texts_go_only_when_asked_for(fake, tmp_path, hub):
    push_run(fake, REPO, Push(texts=True))
    pull_run(REPO, tmp_path / "back")
    theirs, ours = load_run(tmp_path / "back"), load_run(fake)
    assert theirs.texts.equals(ours.texts) and theirs.examples.equals(ours.examples)
    card = (tmp_path / "back/README.md").read_text("utf-8")
    assert "The texts are here, under their sources' licences" in card
    push_run(fake, tmp_path.as_posix() + "/with", Push(activations=True))
    assert list((tmp_path / "with/activations").rglob("*.safetensors")) and list((tmp_path / "with/codes").iterdir())


def test_a_dictionary_goes_alone_with_its_features(fake, tmp_path, hub):
    push_run(fake, REPO, Push(dictionary="base.layer01", license="mit"))
    pull_run(REPO, tmp_path / "back")
    back, ours = load_dictionary(tmp_path / "back"), load_run(fake).dictionary("base.layer01")
    np.testing.assert_array_equal(back.weights.decoder_nd, ours.weights.decoder_nd)
    names = {path.name for path in (tmp_path / "back").iterdir()}
    assert {"features.parquet", "contrasts.parquet", "criteria.json", "saelens", "README.md", SHARE_NAME} <= names
    assert "examples.parquet" not in names and "study.yaml" not in names
    from antar.stages.export import import_dictionary

    mine = import_dictionary(tmp_path / "back/saelens", tmp_path / "mine")
    np.testing.assert_allclose(load_dictionary(mine).weights.decoder_nd, ours.weights.decoder_nd, atol=1e-6)


def test_the_card_has_data_recipe_criteria_with_nulls_and_limits(fake, tmp_path, hub):
    push_run(fake, f"{tmp_path}/run", Push(license="apache-2.0"))
    push_run(fake, f"{tmp_path}/one", Push(dictionary="delta.layer01"))
    card = ModelCard.load(tmp_path / "run/README.md")
    assert card.data.license == "apache-2.0" and card.data.library_name == "antar"
    assert card.data.base_model == ["Qwen/Qwen1.5-1.8B"], "a folder of this machine is no model of the hub"
    assert card.data.language == ["en", "hi"] and "sparse-autoencoder" in card.data.tags
    for part in ("## Models", "## Data", "## Recipe", "## The seven criteria, each beside its null", "## Limits"):
        assert part in card.text
    for row in load_run(fake).criteria["criteria"]:
        line = next(line for line in card.text.splitlines() if line.startswith(f"| {row['name']} |"))
        assert row["verdict"] in line
        if row["null"]:
            assert f"{row['null']['value']:.3g}" in line
    assert "7" * 40 in card.text, "the revision that the run read"
    assert "<b>" not in card.text and "&lt;b&gt;nothing" in card.text, "a question is no markup"
    other = ModelCard.load(tmp_path / "one/README.md")
    assert other.data.license == "other" and "can be attached to no single model" in other.text


@pytest.mark.slow
def test_a_dataset_goes_and_opens(fake, tmp_path, hub):
    push_run(fake, "somebody/tables", Push(dataset=True, texts=True, license="cc-by-4.0"))
    assert ("dataset", "somebody/tables") in hub.repositories
    pull_run("somebody/tables", tmp_path / "back", dataset=True)
    assert (tmp_path / "back/data/features/train.parquet").is_file()
    push_run(fake, f"{tmp_path}/bare", Push(dataset=True))
    assert not (tmp_path / "bare/data/texts").exists() and not (tmp_path / "bare/data/examples").exists()


def test_a_push_that_was_cut_off_sends_the_rest(fake, hub):
    sent: list[str] = []

    def fails(method: str, path: str) -> int | None:
        if path.startswith("/lfs/"):
            sent.append(path)
        return 400 if path.startswith("/lfs/") and len(sent) > 3 else None

    hub.fails = fails
    with pytest.raises(UserError, match="push to somebody/a-run"):
        push_run(fake, REPO, Push())
    before = list(hub.uploads)
    assert 0 < len(before) <= 3 and set(hub.files("model", REPO)[1]) == {".gitattributes"}, "absent, not half there"
    hub.fails = lambda *_: None
    push_run(fake, REPO, Push())
    assert len(hub.uploads) == len(set(hub.uploads)), "nothing is sent twice"
    assert "dictionaries/base.layer01/sae_weights.safetensors" in hub.files("model", REPO)[1]


def test_a_pull_that_was_cut_off_fetches_the_rest(fake, tmp_path, hub):
    push_run(fake, REPO, Push())
    sha, _ = hub.files("model", REPO)
    hub.fails = lambda method, path: 400 if method == "GET" and path.endswith("contrasts.parquet") else None
    with pytest.raises(UserError, match="pull from somebody/a-run"):
        pull_run(f"{REPO}@{sha}", tmp_path / "back")
    assert not (tmp_path / "back").exists()
    before = list(hub.fetched)
    hub.fails = lambda *_: None
    pull_run(f"{REPO}@{sha}", tmp_path / "back")
    again = hub.fetched[len(before) :]
    assert "features/contrasts.parquet" in again and not set(again) & set(before)
    assert load_run(tmp_path / "back").contrasts.height > 0 and not list(tmp_path.glob(".antar-pull-*"))


@pytest.mark.parametrize(
    ("token", "told"),
    [
        (None, "found no token, or one that is not valid; give one in $HF_TOKEN"),
        ("nobody-knows-this-token", "found no token, or one that is not valid"),
        (READER, "found a token that may not do this"),
    ],
)
def test_who_may_not_push_is_told_so(fake, hub, monkeypatch, token, told):
    monkeypatch.delenv("HF_TOKEN") if token is None else monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(UserError) as error:
        push_run(fake, REPO, Push())
    assert told in str(error.value) and "\n" not in str(error.value)
    assert not hub.repositories
    hub.commit("model", REPO, {})  # the same where the repository is there already
    with pytest.raises(UserError, match=re.escape(told)):
        push_run(fake, REPO, Push())


def test_what_is_not_there_is_told(fake, tmp_path, hub):
    with pytest.raises(UserError, match="expected a model repository, found none, or one that is private"):
        pull_run("somebody/nothing", tmp_path / "x")
    push_run(fake, REPO, Push())
    with pytest.raises(UserError, match="expected a branch, tag or commit, found no v9 in it"):
        pull_run(f"{REPO}@v9", tmp_path / "x")
    with pytest.raises(UserError, match="found no " + "0" * 40):
        pull_run(f"{REPO}@{'0' * 40}", tmp_path / "x")
    hub.fails = lambda *_: 500
    with pytest.raises(UserError, match=r"found 500: .*try again later"):
        push_run(fake, REPO, Push())
    hub.fails = lambda *_: None
    with pytest.raises(UserError, match="--license: expected a licence that the hub knows"):
        push_run(fake, REPO, Push(license="my-own"))
    assert len(hub.repositories["model", REPO]["main"]) == 2
    hub.commit("model", "somebody/saes", {"cfg.json": b"{}", "sae_weights.safetensors": b""})
    with pytest.raises(UserError, match=r"found no antar-share.json; .*`antar import`"):
        pull_run("somebody/saes", tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ["evil.pt", "data/pytorch_model.bin", "x.pkl", "modeling.py", "run.sh", "A.PTH"])
def test_what_can_run_code_is_not_even_fetched(fake, tmp_path, hub, name):
    push_run(fake, REPO, Push())
    sha = hub.commit("model", REPO, {name: b"\x80\x04."})
    hub.fetched.clear()
    with pytest.raises(UserError, match=re.escape(f"found {name}, which can run code")):
        pull_run(f"{REPO}@{sha}", tmp_path / "x")
    assert not hub.fetched and not (tmp_path / "x").exists()


def test_what_the_manifest_does_not_name_is_left_there(fake, tmp_path, hub, capsys):
    push_run(fake, REPO, Push())
    hub.commit("model", REPO, {"notes.txt": b"hello", "README.md": b"---\nlicense: mit\n---\nedited by hand\n"})
    pull_run(REPO, tmp_path / "x")
    assert "does not name it: notes.txt" in capsys.readouterr().err
    assert not (tmp_path / "x/notes.txt").exists() and "edited by hand" in (tmp_path / "x/README.md").read_text()


def test_texts_of_a_hub_look_like_folders_and_the_other_way_round(fake, tmp_path, hub, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(UserError, match=r"say ./runs/x or hf://runs/x"):
        push_run(fake, "runs/x", Push())
    push_run(fake, "./runs/x", Push())
    with pytest.raises(UserError, match=r"say ./runs/x or hf://runs/x"):
        pull_run("runs/x", tmp_path / "y")
    push_run(fake, "hf://runs/x", Push())
    assert ("model", "runs/x") in hub.repositories
    for wrong in ("justaname", "a/b/c", "a b/c", ""):
        with pytest.raises(UserError, match="expected OWNER/NAME on the hub or a folder"):
            push_run(fake, wrong, Push())


@pytest.mark.slow
def test_the_command_line_says_one_line_without_a_network(fake, tmp_path):
    environment = quiet_environment() | {
        "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": WRITER,
        "HF_HOME": str(tmp_path / "hf"),
    }  # fmt: skip
    for arguments in (["push", fake, "--to", REPO], ["pull", REPO, "--to", "x"]):
        done = subprocess.run(
            antar_command(*arguments), cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 2, done.stderr
        lines = [line for line in done.stderr.splitlines() if line.startswith("antar: ")]
        assert len(lines) == 1 and "expected to reach the hub" in lines[0] and "Traceback" not in done.stderr
    offline = subprocess.run(
        antar_command("pull", REPO, "--to", "x"), cwd=tmp_path, env=os.environ | quiet_environment(),
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert offline.returncode == 2 and "expected to reach the hub" in offline.stderr
    assert not (tmp_path / "x").exists()
