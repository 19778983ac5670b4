"""Serving: one socket, links that work once, no log that could hold them; another host only with a password."""

from __future__ import annotations

import os
import secrets
import socket
from getpass import getpass
from pathlib import Path

import uvicorn

from antar.core.errors import UserError
from antar.core.progress import say
from antar.run import load_run
from antar.web.annotate.links import guests_of
from antar.web.annotate.mine import MINE
from antar.web.app import create_app
from antar.web.session import LOOPBACK

PASSWORD = "ANTAR_PASSWORD"
SHORTEST_PASSWORD = 12
_ANY = ("0.0.0.0", "::", "")


def serve_run(folder: Path | str, port: int, host: str, links: int, open_at: str = "") -> None:
    """Serve the run in `folder` until interrupted, and print `links` links, each for one browser.

    open_at: the page that the links open, e.g. `annotate`; the first page without one
    """
    run = load_run(folder)
    password = None if host in LOOPBACK else read_password(host)
    with listen(port, host) as listening:
        taken = listening.getsockname()[1]
        tokens = [secrets.token_urlsafe(32) for _ in range(links)]
        guests = guests_of(run.folder)
        app = create_app(run, tokens, password=password, hosts=hosts_of(host), cookie=f"antar-{taken}", guests=guests)
        shown = "127.0.0.1" if host == "localhost" else socket.gethostname() if host in _ANY else host
        address = f"http://{f'[{shown}]' if ':' in shown else shown}:{taken}"
        for token in tokens:
            say(f"{run.folder}: open {address}/{open_at}?token={token}")
        say(f"{'The link works' if links == 1 else 'Each link works'} once, in one browser. Ctrl-C ends it.")
        for name, token in guests.items():
            say(f"annotate as {name}, blind: {address}{MINE}?token={token}")
        if password is not None:
            say(warning(host, taken))
        # No access log: its lines would hold the tokens.
        config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, lifespan="off",
                                timeout_graceful_shutdown=3)  # fmt: skip
        uvicorn.Server(config).run(sockets=[listening])


def warning(host: str, port: int) -> str:
    return (
        f"WARNING: this server listens on {host}, port {port}, and not on this machine alone. Whoever reaches it and "
        "knows the password can read the whole run and write annotations. The connection is plain HTTP: on a network "
        "that you do not trust, use an SSH tunnel to a server on 127.0.0.1 instead, or a proxy with TLS."
    )


def read_password(host: str) -> str:
    """From the environment, else asked for on the terminal: never on the command line, where others can read it."""
    given = os.environ.get(PASSWORD)
    if given is None:
        try:
            given = getpass(f"password for {host} (at least {SHORTEST_PASSWORD} characters): ")
        except (EOFError, OSError):
            given = ""
    if len(given) < SHORTEST_PASSWORD:
        raise UserError(
            f"--host {host}: expected a password of at least {SHORTEST_PASSWORD} characters, found {len(given)}; "
            f"set {PASSWORD}, or leave --host away to serve this machine alone"
        )
    return given


def hosts_of(host: str) -> set[str]:
    """The names that this server answers to: the loopback's, and those of this machine where it listens there."""
    names: set[str] = {*LOOPBACK, "::1"} if ":" in host else {*LOOPBACK}
    if host in LOOPBACK:
        return names
    if host not in _ANY:
        return names | {host}
    own = {socket.gethostname(), socket.getfqdn()}
    for name in list(own):
        try:
            own |= {str(found[4][0]) for found in socket.getaddrinfo(name, None)}
        except OSError:
            continue
    return names | own | {name.partition(".")[0] for name in own if not name.partition(".")[0].isdigit()}


def listen(port: int, host: str = "127.0.0.1") -> socket.socket:
    """A listening socket; `port` 0 takes any free one."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host or "0.0.0.0", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # By name, not 0: asyncio sends small answers at once (TCP_NODELAY) on sockets that say that they are TCP's.
        listening = socket.socket(family, kind, socket.IPPROTO_TCP)
    except OSError as error:
        raise UserError(f"--host {host}: expected an address of this machine, found {error.strerror}") from error
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
        listening.listen()
    except OSError as error:
        listening.close()
        what = (
            f"port {port}: expected a free port" if host in LOOPBACK else f"{host}, port {port}: expected to listen"
        )
        raise UserError(f"{what}, found {error.strerror}; choose another with --port") from error
    return listening
