"""`--shard i/N`: parts of the extraction made by processes that know nothing of each other, and sealed by a run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from antar.core.errors import UserError
from antar.core.lock import only_process
from antar.core.manifest import read_manifest
from antar.pipeline import open_study, plan_study, run_part, run_study
from antar.stages.parts import Part

sys.path.insert(0, str(Path(__file__).parent.parent))
from micro import MICRO, antar, antar_command, quiet_environment, write_micro
from run_files import sums_of

SMALL = MICRO.replace("texts_per_shard: 256", "texts_per_shard: 100")


@pytest.mark.parametrize("of", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [0, 1, 5, 6])
def test_parts_share_out_every_shard_once(of, n):
    shares = [Part(number, of).shards(n) for number in range(of)]
    assert sorted(shard for share in shares for shard in share) == list(range(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("text", ["4/4", "1", "a/b", "-1/4", "0/0", "1/2/3", " 0/2", ""])
def test_what_is_no_part(text):
    with pytest.raises(UserError, match="expected i/N with i from 0 to N - 1, such as 0/4"):
        Part.parse(text)
    assert Part.parse("3/4") == Part(3, 4)


@pytest.fixture
def before(finished, tmp_path):
    """A micro study made as far as its corpus; small shards."""
    run = tmp_path / "runs" / "micro"
    for name in ("organism", "corpus"):
        shutil.copytree(finished / name, run / name)
    write_micro(tmp_path).write_text(SMALL, encoding="utf-8")
    return tmp_path


@pytest.mark.slow
def test_parts_made_at_once_and_sealed_equal_one_extraction(before, tmp_path_factory):
    study, run = before / "micro.yaml", before / "runs" / "micro"
    whole = tmp_path_factory.mktemp("one")
    shutil.copytree(before, whole, dirs_exist_ok=True)
    assert antar("extract", "micro.yaml", cwd=whole).returncode == 0

    # Two at once; the third is killed before it begins, as a scheduler may, and requeued by the run that seals.
    running = [
        subprocess.Popen(
            antar_command("run", study, "--shard", f"{number}/3", "--stage", "extract"),
            cwd=before, env=quiet_environment(), stderr=subprocess.PIPE, text=True,
        )
        for number in (0, 2)
    ]  # fmt: skip
    said = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    assert "extract: part 0/3" in said[0]
    shards = sorted(path.name for path in (run / "activations" / "chat.layer01").iterdir())
    assert shards == [f"{shard:05d}.safetensors" for shard in range(8) if shard % 3 != 1]
    assert not list(run.rglob("activations/*/manifest.json")), "a part seals nothing"

    kept = {path: path.stat().st_mtime_ns for path in run.glob("activations/*/*.safetensors")}
    again = antar("extract", study, "--shard", "0/3", cwd=before)
    assert again.returncode == 0 and "part 0/3: 0 of its 12 shards made now" in again.stderr, again.stderr
    sealed = antar("extract", study, cwd=before)
    assert sealed.returncode == 0, sealed.stderr
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "what the parts made is kept"
    assert sums_of(run / "activations") == sums_of(whole / "runs" / "micro" / "activations")


def test_a_part_needs_the_stages_before_it(tmp_path):
    write_micro(tmp_path)
    with pytest.raises(UserError, match="extract: needs organism first"):
        run_part(open_study(tmp_path / "micro.yaml", tmp_path / "runs"), Part(0, 2))


def test_only_extraction_has_parts(before):
    with pytest.raises(UserError, match="expected --stage extract, the one stage that has parts, found 'train'"):
        run_part(open_study(before / "micro.yaml", before / "runs"), Part(0, 2), "train")
    line = antar("run", "micro.yaml", "--shard", "0/2", "--engine", "ray", cwd=before)
    assert line.returncode == 2 and "a part is made here; leave --engine out" in line.stderr


def test_parts_share_a_run_folder_with_each_other_and_with_no_run(tmp_path):
    with only_process(tmp_path, shared=True):
        with only_process(tmp_path, shared=True):
            pass
        with pytest.raises(UserError, match="works here; wait for it or stop it"), only_process(tmp_path):
            pass
    with (
        only_process(tmp_path),
        pytest.raises(UserError, match="works here; wait for it or stop it"),
        only_process(tmp_path, shared=True),
    ):
        pass


def test_a_damaged_shard_of_a_sealed_site_is_made_again_by_its_part(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "runs" / "micro")
    write_micro(tmp_path)
    run = tmp_path / "runs" / "micro"
    before = sums_of(run / "activations")
    shard = run / "activations" / "base.layer00" / "00001.safetensors"
    shard.write_bytes(shard.read_bytes()[:-4] + b"\x00\x00\x80\x3f")
    context = open_study(tmp_path / "micro.yaml", tmp_path / "runs")
    run_part(context, Part(0, 2))
    assert sums_of(run / "activations") != before, "shard 1 is not part 0's"
    run_part(context, Part(1, 2))
    assert read_manifest(shard.with_name("manifest.json")) is None, "a run seals it again"
    assert sums_of(run / "activations") == {
        name: value for name, value in before.items() if name != "base.layer00/manifest.json"
    }


def test_parts_made_on_two_disks_are_laid_side_by_side_and_kept(finished, before, tmp_path_factory):
    """As where no storage is shared: shards carry their own proof, so they may be copied into one run folder."""
    folders = [before, tmp_path_factory.mktemp("other disk")]
    shutil.copytree(before, folders[1], dirs_exist_ok=True)
    for number, folder in enumerate(folders):
        run_part(open_study(folder / "micro.yaml", folder / "runs"), Part(number, 2))
    name = "runs/micro/activations"
    shutil.copytree(folders[1] / name, before / name, dirs_exist_ok=True)
    context = open_study(before / "micro.yaml", before / "runs")
    made = {path: path.stat().st_mtime_ns for path in before.rglob("activations/*/*.safetensors")}
    assert len(made) == 8 * (1 + 4 * 2)
    run_study(context, only="extract")
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert len(list(before.rglob("activations/*/manifest.json"))) == 1 + 4 * 2


def test_what_tasks_ask_of_a_cluster_makes_nothing_stale(finished, tmp_path):
    path = write_micro(tmp_path)
    path.write_text(MICRO + "engine: {extract: {gpus: 0.5}, train: {cpus: 2}}\n", encoding="utf-8")
    assert all(stage.fresh for stage in plan_study(open_study(path, finished.parent)))
