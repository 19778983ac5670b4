"""A made sham on a tiny pair: equal drift at each layer, the same bits after a kill, and mistakes in one line."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from antar.core.errors import UserError
from antar.models.config import ExtractConfig
from antar.models.pair import load_model
from antar.models.tokens import TokenShard
from antar.organisms.sham import Pair, Probe, ShamConfig, make_sham
from antar.organisms.sham import train as training
from antar.organisms.sham.drift import Gauge
from antar.organisms.sham.groups import parameter_groups
from antar.organisms.sham.make import Probes
from antar.organisms.sham.train import Order, backward
from sham_pair import byte_tokenizer, configs, sentences, write_pair

LAYERS = (0, 2)
EXTRACT = ExtractConfig(layers=LAYERS, max_tokens=64, dtype="float32", threads=1, device="cpu", token_budget=512)
CFG = ShamConfig(lr=0.001, batch=8, max_tokens=48, check_every=3, max_steps=120, checkpoint_every=3, seed=1)
MOVED = (0.01, 0.03, 0.06, 0.06)
LEARNT = sentences(60, "heard of")


def probe(texts, language="en") -> Probe:
    ids = [np.array(byte_tokenizer()(text)["input_ids"][:64], np.int32) for text in texts]
    # As with an outlier mask: a token in the middle is left out of the mean.
    keep = [np.arange(len(one)) != 3 for one in ids]
    return Probe(TokenShard(ids, keep), [language] * len(ids))


PROBES = Probes(probe(sentences(40)[:20]), probe(sentences(40)[20:]))


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Pair:
    sides = configs(write_pair(tmp_path_factory.mktemp("pair"), MOVED))
    return Pair(sides["base"], sides["chat"], EXTRACT)


@pytest.fixture(scope="module")
def made(pair, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sham") / "a"
    return folder, make_sham("a", CFG, pair, PROBES, LEARNT, 5, folder, "f")


def naive_drift(folder, pair, layer: int, one: Probe) -> float:
    """One text at a time through `output_hidden_states`, no hooks, no batches."""
    base, side = (AutoModelForCausalLM.from_pretrained(path).eval() for path in (pair.base.path, folder))
    squares = []
    for ids, keep in zip(one.tokens.ids, one.tokens.keep, strict=True):
        with torch.no_grad():
            read = [
                model(torch.tensor(ids[None].astype(np.int64)), output_hidden_states=True).hidden_states[layer + 1]
                for model in (base, side)
            ]
        means = [hidden[0][torch.from_numpy(keep)].mean(0).double() for hidden in read]
        squares.append(float((means[1] - means[0]).square().sum()))
    return float(np.sqrt(np.mean(squares)))


def weights(folder) -> dict[str, torch.Tensor]:
    return {name: one.clone() for name, one in AutoModelForCausalLM.from_pretrained(folder).state_dict().items()}


def test_the_saved_sham_drifts_as_far_as_chat_at_each_layer(made, pair):
    folder, facts = made
    for one in facts["layers"]:
        target = naive_drift(pair.chat.path, pair, one["layer"], PROBES.match)
        reached = naive_drift(folder, pair, one["layer"], PROBES.match)
        assert one["target"] == pytest.approx(target, rel=1e-4)
        assert one["reached"] == pytest.approx(reached, rel=1e-4)
        assert abs(reached / target - 1) <= CFG.tolerance
        assert one["equal"]
        elsewhere = naive_drift(folder, pair, one["layer"], PROBES.check)
        expected = elsewhere / naive_drift(pair.chat.path, pair, one["layer"], PROBES.check)
        assert one["ratio_elsewhere"] == pytest.approx(expected, rel=1e-4)
        assert expected == pytest.approx(1, abs=0.25)
        assert 0 < one["factor"] <= 2
    assert [one["layer"] for one in facts["layers"]] == [0, 2]
    assert facts["layers"][1]["propagated"] < facts["layers"][1]["target"]
    assert json.loads((folder / "sham.json").read_text(encoding="utf-8")) == facts
    assert facts["last_losses"] < facts["first_loss"]
    assert not list(folder.glob("*training*")) and not (folder / ".saving").exists()


def test_what_is_not_read_stays_bases(made, pair):
    folder, _ = made
    before, after = weights(pair.base.path), weights(folder)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert not any(".layers.3." in name or name == "model.norm.weight" for name in changed)
    for part in ("embed_tokens.weight", ".layers.0.mlp.up_proj.weight", ".layers.1.", ".layers.2.mlp.up_proj.weight"):
        assert any(part in name for name in changed), part


def test_each_weight_is_in_one_group(pair):
    model = load_model(pair.base, torch.float32, torch.device("cpu"), head=True)
    first, second = parameter_groups(model.base_model, 4, [2, 0])
    assert (first.layer, second.layer) == (0, 2)
    assert {name.split(".")[1] for name in first.parameters if name.startswith("layers")} == {"0"}
    assert "embed_tokens.weight" in first.parameters
    assert {name.split(".")[1] for name in second.parameters} == {"1", "2"}
    assert not first.parameters.keys() & second.parameters.keys()


def test_two_shams_differ_and_one_is_the_same_twice(made, pair, tmp_path):
    folder, facts = made
    assert make_sham("a", CFG, pair, PROBES, LEARNT, 5, tmp_path / "again", "f") == facts
    make_sham("b", CFG, pair, PROBES, LEARNT, 5, tmp_path / "b", "f")
    one, again, other = weights(folder), weights(tmp_path / "again"), weights(tmp_path / "b")
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["model.layers.0.mlp.up_proj.weight"], other["model.layers.0.mlp.up_proj.weight"])


@pytest.mark.parametrize("after", [1, 4, 7])
def test_a_killed_training_goes_on_to_the_same_bits(made, pair, tmp_path, monkeypatch, after):
    folder, facts = made
    assert facts["steps"] > 7, "it must be killed in its middle"
    steps = 0

    def killing(*arguments):
        nonlocal steps
        if steps == after:
            raise KeyboardInterrupt
        steps += 1
        return backward(*arguments)

    monkeypatch.setattr(training, "backward", killing)
    with pytest.raises(KeyboardInterrupt):
        make_sham("a", CFG, pair, PROBES, LEARNT, 5, tmp_path / "a", "f")
    assert not (tmp_path / "a" / "sham.json").exists()
    counted = []
    monkeypatch.setattr(training, "backward", lambda *a: counted.append(1) or backward(*a))
    assert make_sham("a", CFG, pair, PROBES, LEARNT, 5, tmp_path / "a", "f") == facts
    assert len(counted) == facts["steps"] - after // CFG.check_every * CFG.check_every, "it went on, not anew"
    one, resumed = weights(folder), weights(tmp_path / "a")
    assert all(torch.equal(one[name], resumed[name]) for name in one)


def test_a_checkpoint_of_other_settings_is_not_gone_on_from(pair, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(training.Training, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        make_sham("a", CFG, pair, PROBES, LEARNT, 5, tmp_path / "a", "f")
    monkeypatch.undo()
    short = CFG.model_copy(update={"max_steps": 3})
    facts = make_sham("a", short, pair, PROBES, LEARNT, 5, tmp_path / "a", "g")
    assert facts["steps"] == 3


def test_a_layer_that_is_not_reached_is_said(pair, tmp_path, capsys):
    short = CFG.model_copy(update={"max_steps": 1, "lr": 1e-6})
    facts = make_sham("a", short, pair, PROBES, LEARNT, 5, tmp_path / "a", "f")
    assert not any(one["equal"] for one in facts["layers"])
    assert all(one["ratio"] < 0.5 and one["factor"] == 2 for one in facts["layers"])
    assert "raise max_steps or lr" in capsys.readouterr().err


def test_drift_that_comes_from_below_is_said_and_not_undone(pair, tmp_path, capsys, monkeypatch):
    """A chat model whose layer 2 hardly drifts though its layer 0 does: no sham can do that by scaling."""
    measured = Gauge.distances_of

    def less_at_layer_2(self, other):
        return {probe: {layer: far * (0.1 if layer == 2 else 1) for layer, far in one.items()}
                for probe, one in measured(self, other).items()}  # fmt: skip

    monkeypatch.setattr(Gauge, "distances_of", less_at_layer_2)
    facts = make_sham("a", CFG, pair, PROBES, LEARNT, 5, tmp_path / "a", "f")
    below, above = facts["layers"]
    assert below["equal"] and not above["equal"]
    assert above["factor"] == 0
    assert above["reached"] == above["propagated"] > above["target"]
    assert naive_drift(tmp_path / "a", pair, 2, PROBES.match) == pytest.approx(above["propagated"], rel=1e-4)
    before, after = weights(pair.base.path), weights(tmp_path / "a")
    assert all(torch.equal(before[name], after[name]) for name in before if ".layers.2." in name)
    lines = [line for line in capsys.readouterr().err.splitlines() if "comes from shallower layers" in line]
    assert len(lines) == 1 and "at layer 2" in lines[0]


def test_chat_that_is_base_is_a_user_error(pair, tmp_path):
    same = Pair(pair.base, pair.base, EXTRACT)
    with pytest.raises(UserError, match=r"to differ from base at layer 0, found no difference") as caught:
        make_sham("a", CFG, same, PROBES, LEARNT, 5, tmp_path / "a", "f")
    assert "\n" not in str(caught.value)


def test_too_few_texts_is_a_user_error(pair, tmp_path):
    with pytest.raises(UserError, match=r"at least 8 neutral texts .* found 3; add texts"):
        make_sham("a", CFG, pair, PROBES, LEARNT[:3], 5, tmp_path / "a", "f")


def blown_up(pair, tmp_path, monkeypatch, at: int, what: str) -> str:
    """What is said of a training in which a weight, or the loss, is no number after step `at`."""
    done = 0

    def breaking(model, *arguments):
        nonlocal done
        done += 1
        loss = backward(model, *arguments)
        if done == at and what == "gradient":
            model.base_model.layers[0].mlp.up_proj.weight.grad.fill_(torch.inf)
        return float("inf") if done == at and what == "loss" else loss

    monkeypatch.setattr(training, "backward", breaking)
    with pytest.raises(UserError) as caught:
        make_sham("a", CFG, pair, PROBES, LEARNT, 5, tmp_path / "a", "f")
    assert not (tmp_path / "a" / "sham.json").exists()
    assert pair.base.path not in str(caught.value) and "dtype" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("at", "what", "told"),
    [(2, "loss", "step 2: expected finite loss"), (1, "gradient", "step 2: expected finite loss"),
     (3, "gradient", "step 3: expected finite activations")],
)  # fmt: skip
def test_a_diverged_training_is_the_shams_fault_and_its_lrs(pair, tmp_path, monkeypatch, at, what, told):
    line = blown_up(pair, tmp_path, monkeypatch, at, what)
    assert line.startswith(f"sham a: its training diverged at {told}") and "lower lr (0.001)" in line
    assert "\n" not in line


def test_an_lr_that_is_far_too_large_is_one_line_about_it(pair, tmp_path):
    large = CFG.model_copy(update={"lr": 1e30})
    with pytest.raises(UserError, match=r"^sham a: its training diverged at step 2: .* lower lr \(1e\+30\)"):
        make_sham("a", large, pair, PROBES, LEARNT, 5, tmp_path / "a", "f")


def test_a_step_in_parts_has_the_gradient_of_the_whole(pair):
    ids = [np.array(byte_tokenizer()(text)["input_ids"], np.int64) for text in sentences(9)]

    def gradient(budget: int) -> tuple[float, torch.Tensor]:
        model = load_model(pair.base, torch.float32, torch.device("cpu"), head=True).requires_grad_(True)
        loss = backward(model, ids, budget, "float32")
        return loss, model.base_model.layers[1].mlp.up_proj.weight.grad

    (whole, expected), (parts, found) = gradient(10_000), gradient(100)
    assert parts == pytest.approx(whole, rel=1e-5)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)
    model = load_model(pair.base, torch.float32, torch.device("cpu"), head=True)
    with torch.no_grad():  # the naive twin: transformers' own loss of one text, weighted by its tokens
        losses = [(float(model(torch.tensor(one[None]), labels=torch.tensor(one[None])).loss), len(one) - 1)
                  for one in ids]  # fmt: skip
    assert whole == pytest.approx(sum(loss * n for loss, n in losses) / sum(n for _, n in losses), rel=1e-5)


def test_every_text_comes_once_before_any_comes_again():
    order = Order(10, 4, 3, "a")
    seen = [row for step in range(10) for row in order.rows(step)]
    for start in range(0, 40, 10):
        assert sorted(seen[start : start + 10]) == list(range(10))
    fresh = Order(10, 4, 3, "a")
    assert [fresh.rows(step) for step in (9, 2, 7)] == [seen[4 * step : 4 * step + 4] for step in (9, 2, 7)]
    assert seen != [row for step in range(10) for row in Order(10, 4, 3, "b").rows(step)]
