"""Serving on the loopback: one socket, one link that works once, no log that could hold it."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

import uvicorn

from antar.core.errors import UserError
from antar.core.progress import say
from antar.run import load_run
from antar.web.app import create_app

HOST = "127.0.0.1"


def serve_run(folder: Path | str, port: int) -> None:
    """Serve the run in `folder` at 127.0.0.1 until interrupted."""
    run = load_run(folder)
    token = secrets.token_urlsafe(32)
    app = create_app(run, token)
    with listen(port) as listening:
        address = f"http://{HOST}:{listening.getsockname()[1]}/?token={token}"
        say(f"{run.folder}: open {address}")
        say("The link works once, in one browser on this machine. Ctrl-C ends it.")
        # No access log: its lines would hold the token.
        config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, lifespan="off")
        uvicorn.Server(config).run(sockets=[listening])


def listen(port: int) -> socket.socket:
    """A listening socket on the loopback; `port` 0 takes any free one."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen()
    except OSError as error:
        listening.close()
        raise UserError(
            f"port {port}: expected a free port, found {error.strerror}; choose another with --port"
        ) from error
    return listening
