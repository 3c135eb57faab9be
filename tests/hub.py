"""A hub on this machine: serves folders as repositories, in the words of huggingface.co that downloads need."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Served:
    """Its address, and the files that were sent, once for each time."""

    def __init__(self, repositories: dict[str, Path]) -> None:
        self.repositories, self.url = repositories, ""
        self.sent: list[str] = []


@contextlib.contextmanager
def hub(repositories: dict[str, Path], pause: float = 0.0) -> Iterator[Served]:
    """Serve folders by the names of repositories; seconds go by after each eighth of a large file."""
    served = Served(repositories)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"  # a connection for each request: none outlives the server

        def do_HEAD(self) -> None:
            self.answer(False)

        def do_GET(self) -> None:
            self.answer(True)

        def answer(self, body: bool) -> None:
            words = unquote(urlsplit(self.path).path).strip("/").split("/")
            api = words[:2] == ["api", "models"]
            owner, name, *rest = words[2:] if api else [*words, "", ""]
            folder = served.repositories.get(f"{owner}/{name}")
            if folder is None:
                self.refuse("RepoNotFound")
            elif api:
                self.send(json.dumps(self.listed(folder, rest)).encode(), {"Content-Type": "application/json"}, body)
            elif rest[1] not in ("main", COMMIT):
                self.refuse("RevisionNotFound")
            elif not (path := folder.joinpath(*[word for word in rest[2:] if word])).is_file():
                self.refuse("EntryNotFound")
            else:
                if body:
                    served.sent.append("/".join(rest[2:]).strip("/"))
                content = path.read_bytes()
                digest = hashlib.sha256(content).hexdigest()
                self.send(content, {"ETag": f'"{digest}"', "X-Repo-Commit": COMMIT}, body)

        @staticmethod
        def listed(folder: Path, rest: list[str]) -> object:
            files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
            if rest[:1] == ["tree"]:
                oid = {name: hashlib.sha1(name.encode()).hexdigest() for name in files}
                sizes = {name: path.stat().st_size for name, path in files.items()}
                return [{"type": "file", "path": name, "size": sizes[name], "oid": oid[name]} for name in files]
            return {"id": "x/y", "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}

        def refuse(self, code: str) -> None:
            self.send(b"", {"X-Error-Code": code}, False, 404)

        def send(self, content: bytes, headers: dict[str, str], body: bool, status: int = 200) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                part = max(1 << 16, -(-len(content) // 8))
                for start in range(0, len(content), part):
                    self.wfile.write(content[start : start + part])
                    time.sleep(pause if len(content) > part else 0)

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        served.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield served
        server.shutdown()
