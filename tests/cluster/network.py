"""Two Ray nodes on one machine that can lose each other: a network namespace each, joined by a pair of virtual links.

What a node runs is found by its namespace, so that it can be killed whole, as a machine is that loses its power.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"
PORT = 6379


class NotPermitted(Exception):
    """Namespaces cannot be made here."""


class TwoNodes:
    """A context manager. `addresses[0]` is the head, on which a driver runs; `addresses[1]` can be killed.

    environment: of every process of both nodes, beside what Ray needs; start: Ray too, not the network alone
    """

    def __init__(self, environment: dict[str, str], start: bool = True) -> None:
        self._start = start
        tag = secrets.token_hex(2)
        self.names = [f"antar-{tag}-{n}" for n in (0, 1)]
        self.addresses = ["10.213.7.1", "10.213.7.2"]
        self._links = [f"an{tag}{n}" for n in (0, 1)]
        self._folder = Path(tempfile.mkdtemp(prefix="antar-ray-"))  # short: the paths of sockets have a limit
        self._environment = os.environ | environment | {
            "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TMPDIR": str(self._folder),
            "no_proxy": "*",  # proxies of the machine are not the nodes'
        }  # fmt: skip

    @property
    def cluster(self) -> str:
        return f"{self.addresses[0]}:{PORT}"

    def __enter__(self) -> TwoNodes:
        try:
            self._make_network()
        except (OSError, subprocess.CalledProcessError) as error:
            self.__exit__()
            raise NotPermitted(str(getattr(error, "stderr", "") or error).strip()) from error
        try:
            if not self._start:
                return self
            common = ["--num-cpus", "1", "--object-store-memory", str(100 * 2**20), "--disable-usage-stats"]
            head = ["--head", "--port", str(PORT), "--include-dashboard", "false", "--temp-dir", str(self._folder)]
            self._ray_start(0, *head, *common)
            self._ray_start(1, "--address", self.cluster, *common)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for node in (0, 1):
            self.kill(node)
            subprocess.run(["ip", "netns", "delete", self.names[node]], capture_output=True, check=False)
        shutil.rmtree(self._folder, ignore_errors=True)

    def command(self, node: int, *words: str) -> list[str]:
        """`words` as they are run on a node."""
        return ["ip", "netns", "exec", self.names[node], *words]

    def start(self, node: int, *words: str, **options: object) -> subprocess.Popen[str]:
        return subprocess.Popen(self.command(node, *words), env=self._environment, text=True, **options)  # type: ignore[call-overload]

    def kill(self, node: int) -> int:
        """SIGKILL to every process of a node; how many there were."""
        listed = subprocess.run(
            ["ip", "netns", "pids", self.names[node]], capture_output=True, text=True, check=False
        ).stdout.split()
        for pid in map(int, listed):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return len(listed)

    def _make_network(self) -> None:
        for name in self.names:
            _ip("netns", "add", name)
        _ip("link", "add", self._links[0], "type", "veth", "peer", "name", self._links[1])
        for name, link, address in zip(self.names, self._links, self.addresses, strict=True):
            _ip("link", "set", link, "netns", name)
            _ip("-n", name, "address", "add", f"{address}/24", "dev", link)
            _ip("-n", name, "link", "set", link, "up")
            _ip("-n", name, "link", "set", "lo", "up")

    def _ray_start(self, node: int, *options: str) -> None:
        words = ["-m", "ray.scripts.scripts", "start", "--node-ip-address", self.addresses[node], *options]
        done = subprocess.run(
            self.command(node, sys.executable, *words),
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"ray start on node {node}: {done.stdout[-2000:]}\n{done.stderr[-2000:]}")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], capture_output=True, text=True, check=True)
