"""`ray symmetric-run` on two nodes, as `srun` starts it on each: the first runs antar, the second works for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))
from attempts import ATTEMPTS, PAUSE, attempts
from network import SOURCE, NotPermitted, TwoNodes

from run_files import differing

HERE = Path(__file__).parent
pytestmark = pytest.mark.cluster


def test_the_same_command_on_both_nodes_makes_the_extraction_together(inline, begun):
    pytest.importorskip("ray", reason="ray is not installed: pip install 'antar[ray]'")
    log, tools = begun / "attempts", str(Path(sys.executable).parent)
    environment = {
        "PYTHONPATH": os.pathsep.join([str(SOURCE), str(HERE)]), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
        "NO_COLOR": "1", "PATH": os.pathsep.join([tools, os.environ["PATH"]]), ATTEMPTS: str(log), PAUSE: "2.0",
        "RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT": "300",
    }  # fmt: skip
    try:
        with TwoNodes(environment, start=False) as nodes:
            antar = [sys.executable, str(HERE / "attempts.py"), "extract", "micro.yaml", "--engine", "ray"]
            words = ["ray", "symmetric-run", "--address", nodes.cluster, "--min-nodes", "2", "--num-cpus=1", "--"]
            words += [*antar, "--address", nodes.cluster]
            # Numbers of processes are each node's own: Ray looks for others of its kind, and `ray stop` ends them.
            own = ["unshare", "--pid", "--fork", "--mount-proc"]
            said = [begun / f"said{node}" for node in (0, 1)]
            running = [
                nodes.start(node, *own, *words, cwd=begun, stdout=said[node].open("w"), stderr=subprocess.STDOUT)
                for node in (0, 1)
            ]
            assert running[0].wait(timeout=900) == 0, said[0].read_text()
    except NotPermitted as error:
        pytest.skip(f"network namespaces are not permitted here: {error}")
    ended = attempts(log, "end")
    assert len(ended) == len({(side, shard) for side, shard, _ in ended}) == 24
    assert {node for _, _, node in ended} == set(nodes.addresses), "both made some"
    assert differing(begun / "runs" / "micro" / "activations", inline / "runs" / "micro" / "activations") == []
