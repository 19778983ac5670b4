"""Tables: every effect beside its nulls, in three formats, whatever the labels try."""

from __future__ import annotations

import csv
import io
import re

import polars as pl
import pytest
import yaml

from antar.core.errors import UserError
from antar.core.sites import DictionaryId
from antar.run import load_run
from antar.share.export import Options, export_run
from antar.share.labelled import contrasts_of, features_of
from hostile_run import HOSTILE, write_hostile_run


def test_each_effect_has_its_own_nulls_beside_it(fake):
    run = load_run(fake)
    shift = contrasts_of(run, "shift")
    assert set(shift["dictionary"]) == {"base.layer01", "base.layer02"}
    every = {
        (row["dictionary"], row["language"], row["latent"], row["null"]): row["d_av"]
        for row in run.contrasts.filter(pl.col("contrast") == "shift").iter_rows(named=True)
    }
    assert shift.height == 2 * 3 * 24
    for row in shift.iter_rows(named=True):
        key = (row["dictionary"], row["language"], row["latent"])
        assert row["d_av"] == every[*key, ""]
        assert row["d_av_null_shuffled"] == every[*key, "shuffled"]
        assert row["d_av_null_sham:a"] == every[*key, "sham:a"]
    strength = shift["d_av"].abs().to_list()
    assert strength == sorted(strength, reverse=True)


def test_what_a_null_dictionary_shows_is_a_row_of_its_own_and_comes_last(fake):
    culture = contrasts_of(load_run(fake), "culture")
    null = culture["dictionary"].str.starts_with("delta:").to_list()
    assert any(null) and null == sorted(null)
    assert set(culture.filter(pl.Series(null))["null"]) == {"sham:a"}
    assert set(culture.filter(~pl.Series(null))["null"]) == {""}


def test_two_sides_of_one_dictionary_have_their_own_shuffled_null_and_share_the_sham(fake):
    run = load_run(fake)
    mine = (pl.col("contrast") == "culture") & (pl.col("dictionary") == "base.layer01")
    base = run.contrasts.filter(mine)
    chat = base.with_columns(side_a=pl.lit("chat"), side_b=pl.lit("chat"), d_av=pl.col("d_av") + 10)
    sham = base.filter(pl.col("null") == "").with_columns(
        side_a=pl.lit("sham:a"), side_b=pl.lit("sham:a"), null=pl.lit("sham:a"), d_av=pl.col("d_av") - 10
    )
    vars(run)["contrasts"] = pl.concat([base, chat, sham])
    found = contrasts_of(run, "culture")
    assert found.height == 2 * 3 * 24
    shuffled = {
        tuple(row[:3]): row[3]
        for row in pl.concat([base, chat]).filter(pl.col("null") == "shuffled")
        .select("side_b", "language", "latent", "d_av").iter_rows()
    }  # fmt: skip
    for row in found.iter_rows(named=True):
        assert row["d_av_null_shuffled"] == shuffled[row["side_b"], row["language"], row["latent"]]
        assert row["d_av_null_sham:a"] == pytest.approx(row["d_av"] - (20 if row["side_b"] == "chat" else 10))


def test_labels_stand_beside_features(fake):
    run = load_run(fake)
    frame = features_of(run, DictionaryId.parse("base.layer01"))
    assert frame.height == 24 and frame["latent"].to_list() == list(range(24))
    labelled = dict(run.labels.select("feature", "label").iter_rows())
    assert [labelled.get(one) for one in frame["feature"]] == frame["label"].to_list()
    assert frame["label"].is_not_null().any()


@pytest.mark.parametrize("format", ["csv", "parquet", "tex"])
def test_a_file_for_each_contrast_and_one_for_the_features(fake, tmp_path, format):
    assert export_run(fake, tmp_path / "out", "tables", Options(format=format, top=3)) == 4
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"{name}.{format}" for name in ("features", "shift", "culture", "facet")
    }


def test_formats_say_the_same(fake, tmp_path):
    export_run(fake, tmp_path / "p", "tables", Options(format="parquet", contrast="shift"))
    export_run(fake, tmp_path / "c", "tables", Options(format="csv", contrast="shift"))
    export_run(fake, tmp_path / "t", "tables", Options(format="tex", contrast="shift", top=5))
    assert [path.name for path in (tmp_path / "p").iterdir()] == ["shift.parquet"]
    frame = pl.read_parquet(tmp_path / "p/shift.parquet")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "c/shift.csv").read_text("utf-8-sig"), newline="")))
    assert list(rows[0]) == frame.columns and len(rows) == frame.height
    assert [float(row["d_av"]) for row in rows] == frame["d_av"].to_list()
    tex = (tmp_path / "t/shift.tex").read_text("utf-8")
    assert len(re.findall(r"\\\\$", tex, re.MULTILINE)) == 1 + 5
    assert frame["feature"][0] in tex and "d, sham:a" in tex and "d, shuffled" in tex


def test_hostile_labels_stay_text(tmp_path):
    run = write_hostile_run(tmp_path / "hostile")
    export_run(run, tmp_path / "c", "tables", Options(format="csv"))
    export_run(run, tmp_path / "t", "tables", Options(format="tex", top=200))
    tex = (tmp_path / "t/features.tex").read_text("utf-8")
    body = tex.split("\\midrule\n")[1].split("\\bottomrule")[0].strip().splitlines()
    cells = {len(re.findall(r"(?<!\\)&", line)) for line in body}
    assert len(cells) == 1 and all(line.endswith(r"\\") and line.count(r"\\") == 1 for line in body)
    for path in (tmp_path / "c").iterdir():
        for row in csv.reader(io.StringIO(path.read_text("utf-8-sig"), newline="")):
            assert not any(re.match(r"[=+@\t\r]|-\D", cell) for cell in row)
    assert any(text[:20] in (tmp_path / "c/features.csv").read_text("utf-8-sig") for text in HOSTILE)


@pytest.mark.parametrize(
    ("to", "options", "told"),
    [
        ("tables", {"format": "xls"}, "expected csv, parquet, tex, found 'xls'"),
        ("tables", {"contrast": "tea"}, "expected culture or facet or shift, found 'tea'"),
        ("tables", {"dictionary": "base.layer09"}, "expected one that the run has features of"),
        ("npz", {"top": 3}, "--top: expected with --to tables or neuronpedia only"),
        ("saelens", {"contrast": "shift"}, "--contrast: expected with --to tables only"),
        ("tea", {}, "--to: expected npz, saelens, neuronpedia, datasets, tables"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(fake, tmp_path, to, options, told):
    with pytest.raises(UserError, match=re.escape(told)):
        export_run(fake, tmp_path / "out", to, Options(**options))
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_over_or_into_a_run(fake, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/x").write_text("somebody's")
    with pytest.raises(UserError, match="new or empty folder"):
        export_run(fake, tmp_path / "taken", "tables")
    with pytest.raises(UserError, match="outside the run"):
        export_run(fake, fake / "tables", "tables")
    assert yaml.safe_load((fake / "study.yaml").read_text("utf-8"))["study"] == "fake"
