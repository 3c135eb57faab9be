"""Can the hub be reached?"""

from __future__ import annotations

import socket
import threading
from urllib.parse import urlsplit

PATIENCE = 3.0  # seconds for a name and a connection; most failures are told at once


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
