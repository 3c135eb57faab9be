"""Can weights be fetched, where they are to be? Looked up last, for it is the only rule that waits for a network."""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit

from launcher.problems import Problem
from launcher.request import Request
from launcher.weights import HERE, folder

PATIENCE = 3.0  # seconds for a name and a connection; most failures are told at once


def reachable(request: Request) -> Iterator[Problem]:
    """Weights that are not here come from the hub, which must answer. Behind a proxy it is the proxy's to say."""
    model = request.config.model
    if not request.machine.here or folder(model) is not None or "https" in urllib.request.getproxies():
        return
    from huggingface_hub import constants  # milliseconds; the rest of that package takes a second

    flaw = connection_flaw(constants.ENDPOINT)
    if flaw is not None:
        rule = f"the weights are not in the cache, and {constants.ENDPOINT} cannot be reached ({flaw})"
        yield Problem(f"model.path={model.path}", rule, f"connect, or type model.path=FOLDER for a local copy, {HERE}")


def connection_flaw(url: str) -> str | None:
    """Why no connection to this address comes about, or None."""
    told: list[str | None] = []

    def connect() -> None:
        try:
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
            socket.create_connection((parts.hostname or "", port), PATIENCE).close()
            told.append(None)
        except (OSError, ValueError) as error:
            told.append(getattr(error, "strerror", None) or str(error))

    thread = threading.Thread(target=connect, daemon=True)  # a resolver knows no time limit
    thread.start()
    thread.join(PATIENCE)
    return told[0] if told else f"no answer within {PATIENCE:g} s"
