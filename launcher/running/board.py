"""What ranks on several machines tell each other to connect: torch's store, kept by the launcher.

torch's own TCPStore asks nobody who they are. Here a question comes over a rank's channel, whose ends have proved to
know the secret.
"""

from __future__ import annotations

from launcher.wire.messages import ProtocolError
from launcher.wire.protocol import Ask, Told

MOST = 64 << 20  # characters of all keys and values


class Board:
    """Keys and values, and who waits for a key that is not there yet."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self._waiting: list[tuple[int, Ask]] = []

    def answers(self, rank: int, ask: Ask) -> list[tuple[int, Told]]:
        """Take one rank's question, and return what can be answered now, to whom: others may have waited for it.

        Raises:
            ProtocolError: no question, or more than there is room for.
        """
        if not ask.keys:
            raise ProtocolError("a question without a key")
        key, found = ask.keys[0], ""
        if ask.what == "set":
            self._values[key] = ask.value
        elif ask.what == "add":
            try:
                found = str(int(bytes.fromhex(self._values.get(key, "30"))) + int(ask.value))
            except ValueError as error:
                raise ProtocolError(f"{key!r:.40} is not a number") from error
            self._values[key] = found = found.encode().hex()
        elif ask.what == "check":
            found = "01" if all(name in self._values for name in ask.keys) else ""
        elif ask.what == "delete":
            found = "01" if self._values.pop(key, None) is not None else ""
        elif ask.what == "get":
            self._waiting.append((rank, ask))
        else:
            raise ProtocolError(f"{ask.what!r:.40} is no question")
        if sum(len(name) + len(value) for name, value in self._values.items()) > MOST:
            raise ProtocolError(f"more than {MOST} characters to remember")
        told = [] if ask.what == "get" else [(rank, Told(ask.number, found))]
        ready = [(who, one) for who, one in self._waiting if all(name in self._values for name in one.keys)]
        self._waiting = [each for each in self._waiting if each not in ready]
        return told + [(who, Told(one.number, self._values[one.keys[0]])) for who, one in ready]
