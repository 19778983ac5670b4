"""A Slurm of this machine alone, in one folder, without systemd: munged, slurmctld and slurmd, ended with the block.

As root, with Debian's slurm-wlm and munge. Jobs are tracked by `proctrack/linuxproc` and started by `task/none`,
which need neither cgroups nor a service manager. A requeued job waits until its credential has expired: 5 s here.
"""

from __future__ import annotations

import os
import platform
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")
CONF = """\
ClusterName=antar
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobRequeue=1
KillWait=2
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES State=UP MaxTime=INFINITE
"""


def lacking() -> str | None:
    """What is missing for a Slurm here, in words; None when nothing is."""
    if os.geteuid() != 0:
        return "a Slurm is set up by root only"
    missing = [name for name in NEEDED if shutil.which(name, path=_path()) is None]
    return f"not installed: {', '.join(missing)} (Debian: slurm-wlm, munge)" if missing else None


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])


class Slurm:
    """A context manager. environment: of every job, beside this process's own."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="antar-slurm-"))
        self._daemons: list[subprocess.Popen[bytes]] = []
        conf = self.folder / "slurm.conf"
        self._environment = os.environ | environment | {"SLURM_CONF": str(conf), "PATH": _path()}
        cpus = len(os.sched_getaffinity(0))
        conf.write_text(CONF.format(host=platform.node(), ports=_free_ports(), folder=self.folder, cpus=cpus))

    def __enter__(self) -> Slurm:
        self.folder.chmod(0o755)
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(64))
        key.chmod(0o400)
        try:
            own = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munge.pid",
                   "log-file": "munge.log", "seed-file": "munge.seed"}  # fmt: skip
            options = [f"--{option}={self.folder / name}" for option, name in own.items()]
            self._daemon("munged", "--foreground", "--force", *options)
            _wait_for(lambda: (self.folder / "munge.socket").exists(), "munged")
            self._daemon("slurmctld", "-D", "-i")
            self._daemon("slurmd", "-D", "-N", platform.node())
            _wait_for(lambda: "idle" in self.ask("sinfo", "-h", "-o", "%t", check=False), "an idle node")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(timeout=20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def ask(self, *words: str, cwd: Path | None = None, check: bool = True) -> str:
        """What a command of Slurm's says."""
        done = subprocess.run(words, env=self._environment, cwd=cwd, capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr}\n{self.logs()}")
        return done.stdout

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in sorted(self.folder.glob("*.log")))

    def _daemon(self, *words: str) -> None:
        with (self.folder / f"{words[0]}.out").open("wb") as out:
            self._daemons.append(subprocess.Popen(words, env=self._environment, stdout=out, stderr=out))


def _wait_for(there: object, what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not there():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not come in {seconds:.0f} s")
        time.sleep(0.2)


def _free_ports() -> list[int]:
    held = [socket.socket() for _ in range(2)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports
