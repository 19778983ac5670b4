"""A node is killed whole in the middle of extraction: the study ends, only what was lost is made again, same bits."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))
from attempts import ATTEMPTS, PAUSE, attempts
from network import SOURCE, NotPermitted, TwoNodes

from run_files import differing

HERE = Path(__file__).parent
pytestmark = pytest.mark.cluster
SHARDS, SIDES = 6, 4


def test_a_node_that_dies_costs_the_shard_it_was_making(inline, begun):
    pytest.importorskip("ray", reason="ray is not installed: pip install 'antar[ray]'")
    log = begun / "attempts"
    environment = {
        "PYTHONPATH": os.pathsep.join([str(SOURCE), str(HERE)]), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
        "NO_COLOR": "1", "COLUMNS": "200", ATTEMPTS: str(log), PAUSE: "1.0",
    }  # fmt: skip
    try:
        with TwoNodes(environment) as nodes:
            said, died_with = run_and_kill(nodes, begun, log)
    except NotPermitted as error:
        pytest.skip(f"network namespaces are not permitted here: {error}")

    started, ended = attempts(log, "start"), attempts(log, "end")
    times = Counter((side, shard) for side, shard, _ in started)
    assert len(times) == SIDES * SHARDS and {shard for _, shard in times} == set(range(SHARDS))
    lost = {(side, shard) for side, shard, node in started if node == died_with and (side, shard, node) not in ended}
    assert len(lost) == 1, f"the node was killed while it made one shard\n{started}\n{ended}"
    assert {one for one, n in times.items() if n > 1} == lost, "exactly what was lost is made again"
    assert times.most_common(1)[0][1] == 2, "and once"
    (side, shard) = next(iter(lost))
    assert f"activations of {side}, shard {shard}: its worker on" in said
    assert any(node == died_with for _, _, node in ended), "it had made some before, which were kept"
    assert differing(begun / "runs" / "micro", inline / "runs" / "micro") == []


def run_and_kill(nodes: TwoNodes, folder: Path, log: Path) -> tuple[str, str]:
    """Run the study on both nodes; kill the second as it begins its third shard. What was said, and its address."""
    with (folder / "said").open("w") as out:
        words = [sys.executable, str(HERE / "attempts.py"), "run", "micro.yaml", "--engine", "ray"]
        driver = nodes.start(0, *words, "--address", nodes.cluster, cwd=folder, stdout=out, stderr=subprocess.STDOUT)
        victim = nodes.addresses[1]
        deadline = time.monotonic() + 300
        while [node for _, _, node in attempts(log, "start")].count(victim) < 3:
            assert driver.poll() is None and time.monotonic() < deadline, (folder / "said").read_text()
            time.sleep(0.02)
        assert nodes.kill(1) > 1
        assert driver.wait(timeout=600) == 0, (folder / "said").read_text()
    return (folder / "said").read_text(), victim
