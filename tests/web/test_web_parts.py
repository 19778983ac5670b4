"""The parts of the browser against naive twins: what it reads, draws, cuts and indexes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
import regex

pytest.importorskip("starlette", reason="the web extra is not installed")

from hypothesis import given
from hypothesis import strategies as st

from antar.core.errors import UserError
from antar.core.shards import write_shard
from antar.core.sites import DictionaryId
from antar.interpret.scores import score_predictions
from antar.run import load_run
from antar.web.explore.activity import firing, home_side, near_misses, sides_of, spread
from antar.web.explore.build import build_index, stamp_of
from antar.web.explore.draw import COLOURS, Drawing, Scale
from antar.web.explore.effects import effects_of
from antar.web.explore.figures import Group, null_band
from antar.web.explore.index import CACHE, Index, Keeper, Opened
from antar.web.explore.nearest import nearest_features
from antar.web.explore.summary import null_points, summarise
from antar.web.explore.table import Query, bound, whole
from antar.web.text import clip, opening, shown

ONE = DictionaryId("base", 1)


# -- what a page reads from codes and weights ---------------------------------------------------------------------


def test_firing_is_the_latents_column_of_the_codes(run):
    codes = run.codes(ONE, "base").csc()
    for latent in range(codes.shape[1]):
        found = firing(run, ONE, "base", latent)
        column = codes[:, [latent]].tocoo()
        assert found.rows.tolist() == column.row.tolist() and np.array_equal(found.values, column.data)
    assert sides_of(run, ONE) == ["base"] and home_side(run, ONE) == "base"
    assert len(firing(run, DictionaryId("base", 9), "base", 0).rows) == 0


def test_codes_in_several_shards_and_in_both_layouts_are_read_alike(run, fake, tmp_path):
    other = load_run(fake.write_fake_run(tmp_path / "run"))
    codes = run.codes(ONE, "base")
    folder = other.folder / "codes/base.layer01@base"
    fired = codes.values_nk[:90] > 0
    write_shard(folder / "00000.safetensors", {"indices": codes.indices_nk[:90][fired],
                "values": codes.values_nk[:90][fired], "counts": fired.sum(1, dtype=np.int32)}, "f")  # fmt: skip
    write_shard(folder / "00001.safetensors", {"indices": codes.indices_nk[90:], "values": codes.values_nk[90:]}, "f")
    examples = np.array([0, 95, 120])
    for latent in (0, 7, 23):
        one, two = (firing(r, ONE, "base", latent) for r in (run, other))
        assert np.array_equal(one.rows, two.rows) and np.array_equal(one.values, two.values)
        assert near_misses(run, ONE, "base", latent, examples) == near_misses(other, ONE, "base", latent, examples)


def test_near_misses_are_the_likest_silent_texts(run):
    dense = run.codes(ONE, "base").csr().toarray().astype(np.float64)
    for latent in (0, 5, 11):
        examples = firing(run, ONE, "base", latent).rows[:6]
        mean = (dense[examples] / np.linalg.norm(dense[examples], axis=1, keepdims=True)).sum(0)
        mean[latent] = 0
        score = dense @ mean / np.linalg.norm(dense, axis=1) / np.linalg.norm(mean)
        score[dense[:, latent] > 0] = -1
        score[examples] = -1
        wanted = np.argsort(-score, kind="stable")[:5]
        found = near_misses(run, ONE, "base", latent, examples)
        assert [row for row, _ in found] == wanted.tolist()
        assert np.allclose([like for _, like in found], score[wanted])


def test_the_spread_is_over_the_range_and_each_text_once(run):
    found = firing(run, ONE, "base", 3)
    picked = spread(found)
    values = [value for _, _, value in picked]
    assert values == sorted(values, reverse=True) and len({row for _, row, _ in picked}) == len(picked) == 5
    middle = next(value for quantile, _, value in picked if quantile == 0.5)
    assert abs(middle - np.median(found.values)) <= np.ptp(np.sort(found.values)[len(found.values) // 2 - 1 :][:3])


def test_nearest_features_are_those_of_the_decoders(run, monkeypatch):
    monkeypatch.setattr("antar.web.explore.nearest.ROWS_AT_ONCE", 7)
    decoders = {str(one): run.dictionary(one).decoder_nd for one in run.dictionary_ids if not one.is_replica}
    found = {one.dictionary: one for one in nearest_features(run, ONE, 4)}
    assert set(found) == {"base.layer01", "chat.layer01", "delta.layer01"}  # this layer, no replica, no sham
    for name, one in found.items():
        cosine = decoders[name] @ decoders["base.layer01"][4]
        if name == "base.layer01":
            cosine[4] = -9
        assert [latent for latent, _ in one.found] == np.argsort(-cosine)[:5].tolist()
        assert np.allclose([value for _, value in one.found], np.sort(cosine)[::-1][:5], atol=1e-6)
    assert nearest_features(run, DictionaryId("base", 9), 0) == []


# -- the summary --------------------------------------------------------------------------------------------------


def test_the_summary_states_what_the_tables_hold(run):
    frame = summarise(run)
    assert frame["feature"].to_list() == run.features["feature"].to_list()
    real = run.contrasts.filter((pl.col("null") == "") & (pl.col("language") == "pooled"))
    for kind in ("culture", "shift"):
        rows = {row["feature"]: row for row in real.filter(pl.col("contrast") == kind).iter_rows(named=True)}
        for row in frame.iter_rows(named=True):
            wanted = rows.get(row["feature"])
            assert row[f"{kind}_d"] == (wanted and wanted["d_av"]) and row[f"{kind}_q"] == (wanted and wanted["q"])
    facets = real.filter(pl.col("contrast") == "facet")
    for feature in ("base.layer01/0", "delta.layer02/7"):
        its = facets.filter(pl.col("feature") == feature)
        best = max(its.iter_rows(named=True), key=lambda row: abs(row["d_av_select"]))
        found = frame.filter(pl.col("feature") == feature).row(0, named=True)
        assert found["facet_d"] == best["d_av"] and found["facet_value"] == f"concept: {best['value']}"
    scores = score_predictions(run.predictions, run.texts, seed=0).per_feature.filter(~pl.col("wrong_label"))
    wanted = dict(scores.select("feature", "balanced_accuracy").iter_rows())
    assert dict(frame.select("feature", "prediction").drop_nulls().iter_rows()) == wanted


def test_a_revised_label_stands_before_the_first(run):
    frame = summarise(run)
    revised = run.verdicts.filter(pl.col("verdict") == "REVISE")
    labels = dict(frame.select("feature", "label").iter_rows())
    assert revised.height and all(
        labels[r["feature"]] == r["label"] for r in revised.iter_rows(named=True) if r["label"]
    )


def test_null_points_are_the_95_percent_points(run):
    rows = run.contrasts.filter((pl.col("contrast") == "culture") & (pl.col("language") == "en"))
    its = rows.filter(pl.col("dictionary").is_in(["delta.layer01"]) & (pl.col("null") == "shuffled"))["d_av"]
    points = null_points(run, "culture").filter(
        (pl.col("language") == "en") & (pl.col("family") == "delta") & (pl.col("layer") == 1)
    )
    found = dict(points.select("null", "point").iter_rows())
    assert found["shuffled"] == pytest.approx(np.quantile(np.abs(its.to_numpy()), 0.95))
    assert "sham:a" in found  # the sham's own delta stands beside the delta


def test_effects_of_a_feature_are_its_rows_with_its_own_nulls(run):
    build_index(run, run.folder / CACHE)
    opened = Opened(run, Index(run.folder / CACHE))
    effects = effects_of(opened, "base.layer01/2", "base.layer01")
    rows = run.contrasts.filter((pl.col("feature") == "base.layer01/2") & (pl.col("null") == ""))
    assert sorted(effect.d for effect in effects) == sorted(rows["d_av"])
    shift = next(effect for effect in effects if effect.contrast == "shift" and effect.language == "pooled")
    assert set(shift.own) == {"shuffled", "sham:a"} and set(shift.beside) == {"shuffled", "sham:a"}


# -- figures ------------------------------------------------------------------------------------------------------


def test_a_band_holds_groups_that_do_not_differ_and_not_one_that_does():
    rng = np.random.default_rng(3)
    n = 4000

    def group(shift: float, first: int) -> Group:
        fires = rng.random(n) < 0.4
        values = np.clip(rng.normal(1 + shift, 0.3, n), 0.01, 2.9)[fires].astype(np.float32)
        return Group("x", "real", np.flatnonzero(fires) + first, values, n)

    edges = np.linspace(0, 3, 25)
    same, other, moved = group(0, 0), group(0, n), group(0.5, 2 * n)
    low, high = null_band(same, other, edges, False, ("a",))
    share = np.histogram(same.values, edges)[0] / n
    inside = ((share >= low - 1e-12) & (share <= high + 1e-12)).mean()
    assert inside > 0.75
    low, high = null_band(same, moved, edges, False, ("a",))
    assert ((share < low) | (share > high)).mean() > 0.4
    again = null_band(same, moved, edges, False, ("a",))
    assert np.array_equal(again[0], low)


def test_paired_labels_are_swapped_by_document():
    units = np.arange(200)
    a = Group("a", "base", units, np.full(200, 0.5, np.float32), 200)
    b = Group("b", "chat", units, np.full(200, 2.5, np.float32), 200)
    low, high = null_band(a, b, np.array([0.0, 1.0, 3.0]), True, ("s",))
    assert 0.35 < low[0] < 0.5 < high[0] < 0.65 and 0.35 < low[1] < 0.5 < high[1] < 0.65


def test_ticks_are_round_and_inside():
    for low, high in ((0, 1), (-0.37, 2.2), (0, 12345), (-1e-4, 1e-4), (5, 5)):
        scale = Scale(low, high, 0, 100)
        ticks = scale.ticks(5)
        assert 2 <= len(ticks) <= 11 and all(scale.low - 1e-9 <= t <= scale.high + 1e-9 for t in ticks)
    assert Scale(float("nan"), 1, 0, 10).ticks()


@given(st.text())
def test_a_drawing_is_xml_whatever_is_written_in_it(text):
    drawing = Drawing(10, 10, text)
    drawing.text(1, 1, text)
    drawing.circle(1, 1, 1, "real", name=text)
    with drawing.link("/feature/x", text):
        drawing.rect(0, 0, 1, 1, "base")
    root = ElementTree.fromstring(drawing.file())
    assert {element.tag.rsplit("}", 1)[1] for element in root.iter()} <= {
        "svg",
        "style",
        "rect",
        "text",
        "circle",
        "a",
        "title",
    }
    assert ElementTree.fromstring(str(drawing.inline())) is not None


@pytest.mark.parametrize("address", ["//evil.example", "https://evil.example", "javascript:alert(1)", ""])
def test_a_drawing_links_to_this_server_only(address):
    with pytest.raises(ValueError, match="link"), Drawing(1, 1, "x").link(address, "x"):
        pass


def test_the_page_and_the_file_know_the_same_colours():
    from importlib.resources import files

    sheet = files("antar.web").joinpath("static/antar.css").read_text(encoding="utf-8")
    for role in set(COLOURS) - {"paper"}:
        assert f".f-{role}" in sheet and f"--{role}:" in sheet


# -- texts --------------------------------------------------------------------------------------------------------


@given(st.text(), st.integers(1, 40))
def test_no_text_is_cut_inside_a_grapheme(text, length):
    whole_text = " ".join(shown(text).split())
    cut = clip(text, length)
    graphemes = regex.findall(r"\X", whole_text)
    if cut == whole_text:
        assert len(graphemes) <= length
    else:
        kept = cut.removesuffix("…")
        assert "".join(graphemes[: length - 1]).rstrip() == kept and len(graphemes) > length


def test_a_long_text_opens_with_whole_words_or_whole_graphemes():
    assert opening("नमस्ते " * 90).removesuffix(" …").split() == ["नमस्ते"] * len(opening("नमस्ते " * 90).split()[:-1])
    one = opening("क्षि" * 500)
    assert regex.fullmatch("(क्षि)+ …", one)
    assert opening("short") == "short"


def test_signs_that_act_unseen_are_shown_and_joiners_stay():
    assert shown("a\x00b\u202ec\ufffed") == "a⟨U+0000⟩b⟨U+202E⟩c⟨U+FFFE⟩d"
    assert shown("क्\u200dष") == "क्\u200dष"


# -- what is asked ------------------------------------------------------------------------------------------------


def test_a_query_takes_only_sense_and_keeps_what_differs():
    assert Query.of_address({"page": "²", "sort": "x", "layer": "x", "q_max": "nan", "of": "x"}) == Query()
    assert len(Query.of_address({"text": "x" * 9999}).text) == 200
    query = Query.of_address({"text": "दीवाली", "site": "base", "page": "3", "nothing": "1"})
    assert query.address(page=1) == "/features?text=%E0%A4%A6%E0%A5%80%E0%A4%B5%E0%A4%BE%E0%A4%B2%E0%A5%80&site=base"
    assert Query().address() == "/features"
    assert (
        bound("0,5") == bound("0.5") == bound("50%") == 0.5
        and bound("\u22121") == -1
        and bound("inf") is None
        and bound("") is None
    )
    assert whole("12345678") is None and whole("٣") is None and whole("3") == 3


# -- the index ----------------------------------------------------------------------------------------------------


def test_an_index_is_built_beside_the_server_and_again_when_the_run_changes(fake, tmp_path):
    run = load_run(fake.write_fake_run(tmp_path / "run", contrasts=False))
    keeper = Keeper(run.folder, patience=60)
    keeper.start()
    opened = keeper.now()
    assert opened is not None and (run.folder / CACHE).is_file()
    assert keeper.now() is opened
    labels = run.folder / "interpret/labels.jsonl"
    labels.write_bytes(labels.read_bytes().replace("दीवाली".encode(), "बिल्कुल नया".encode()))
    changed = keeper.now()
    assert changed is not None and changed is not opened
    assert changed.index.search("बिल्कुल").any() and not opened.index.search("बिल्कुल").any()
    assert not list(run.folder.glob(".cache/.tmp-*"))


def test_an_index_that_is_none_is_replaced(fake, tmp_path):
    run = load_run(fake.write_fake_run(tmp_path / "run", contrasts=False))
    (run.folder / ".cache").mkdir()
    (run.folder / CACHE).write_bytes(b"not an index")
    keeper = Keeper(run.folder, patience=60)
    assert keeper.now() is not None


def test_where_the_run_folder_cannot_be_written_the_index_is_elsewhere(fake, tmp_path):
    run = load_run(fake.write_fake_run(tmp_path / "run", contrasts=False))
    (run.folder / ".cache").write_text("a file where the folder would be")
    keeper = Keeper(run.folder, patience=60)
    assert keeper.now() is not None
    assert (run.folder / ".cache").read_text() == "a file where the folder would be"


def test_a_broken_table_is_one_line(fake, tmp_path):
    run = load_run(fake.write_fake_run(tmp_path / "run"))
    (run.folder / "features/examples.parquet").write_bytes(b"PAR1 not a table")
    keeper = Keeper(run.folder, patience=60)
    for _ in range(2):
        with pytest.raises(UserError, match=r"examples\.parquet: expected a whole table") as error:
            keeper.now()
        assert "\n" not in str(error.value)


def test_the_stamp_is_of_the_content(run):
    before = stamp_of(run)
    path = run.folder / "criteria.json"
    facts = path.stat()
    try:
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
        assert stamp_of(run) != before
    finally:
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert stamp_of(run) == before


def test_the_same_run_gives_the_same_index(run, tmp_path):
    paths = [tmp_path / "a.sqlite", tmp_path / "b.sqlite"]
    for path in paths:
        build_index(run, path)
    one, two = map(Index, paths)
    assert one.frame.equals(two.frame) and one.meta == two.meta


def test_serving_loads_nothing_heavy():
    """`antar serve` starts quickly and small because torch, scipy and matplotlib stay where they are."""
    heavy = ("torch", "scipy", "matplotlib", "transformers", "datasets")
    code = f"import sys, antar.web.server; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_serve_says_its_link_and_ends_on_an_interrupt(run):
    import re
    import signal
    import urllib.error
    import urllib.request

    code = f"from antar.web import serve; serve({str(run.folder)!r}, 0)"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as server:
        try:
            line = server.stderr.readline()
            address = re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", line)[0]
            deadline = time.monotonic() + 60
            while True:
                try:
                    urllib.request.urlopen(address.split("?")[0], timeout=60)
                except urllib.error.HTTPError as refused:
                    assert refused.code == 401
                    break
                except OSError:
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
        finally:
            server.send_signal(signal.SIGINT)
        assert server.wait(30) in (0, 130, -signal.SIGINT)


def test_a_server_whose_code_was_updated_says_so_and_does_not_build_for_ever(fake, tmp_path, monkeypatch):
    run = load_run(fake.write_fake_run(tmp_path / "run", contrasts=False))
    monkeypatch.setattr("antar.web.explore.index.stamp_of", lambda run: "an older version's")
    keeper = Keeper(run.folder, patience=60)
    for _ in range(2):
        with pytest.raises(UserError, match="antar was updated since this server started"):
            keeper.now()
