"""What the hub would answer, asked of a server on this machine that speaks as the hub does."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator

import pytest
from huggingface_hub.utils import close_session
from shared import GPUS

from launcher.config.model_schema import ModelConfig
from launcher.families.hub import access_problems, answer_problems, ask, token
from launcher.rules import problems


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers every request with the class's status and error code, and keeps what it was asked."""

    status, code = 200, ""
    asked: list[tuple[str, str | None]]

    def do_HEAD(self) -> None:
        self.asked.append((self.path, self.headers.get("Authorization")))
        self.send_response(self.status)
        if self.code:
            self.send_header("X-Error-Code", self.code)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def served() -> Iterator[tuple[str, type[Hub]]]:
    handler = type("Handler", (Hub,), {"asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", handler
        server.shutdown()


@pytest.fixture
def endpoint(monkeypatch, tmp_path):
    """The hub's address, as one that a test chooses; nothing is cached, a token is there, no proxy."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_TOKEN", "x")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    close_session()  # which has read these
    yield lambda url: monkeypatch.setattr(constants, "ENDPOINT", url)
    close_session()


def test_a_hub_that_has_the_repository_is_enough(ask, endpoint, served):
    url, hub = served
    endpoint(url)
    assert problems(ask("model=flux", machine=GPUS)) == []
    assert hub.asked == [("/black-forest-labs/FLUX.1-dev/resolve/main/model_index.json", "Bearer x")]


def test_a_proxy_for_all_protocols_is_the_way_there(ask, endpoint, served, monkeypatch):
    """`ALL_PROXY` alone, which the library that fetches the files reads, and urllib does not."""
    url, proxy = served
    monkeypatch.setenv("ALL_PROXY", url)
    endpoint("http://hub.invalid")
    assert problems(ask("model=flux", machine=GPUS)) == []
    assert proxy.asked == [
        ("http://hub.invalid/black-forest-labs/FLUX.1-dev/resolve/main/model_index.json", "Bearer x")
    ]


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (404, "RepoNotFound", "has no repository of this name that you may read"),
        (401, "RepoNotFound", "has no repository of this name that you may read"),
        (401, "GatedRepo", "is gated, and the hub lets only those in who accepted its licence"),
        (403, "GatedRepo", "accept it at https://huggingface.co/black-forest-labs/FLUX.1-dev"),
        (404, "RevisionNotFound", "has no such branch, tag or commit"),
        (404, "EntryNotFound", "it has no model_index.json"),
    ],
)
def test_what_the_hub_would_refuse_later_is_told_before(ask, endpoint, served, status, code, said):
    url, hub = served
    endpoint(url)
    hub.status, hub.code = status, code
    (problem,) = problems(ask("model=flux", "model.revision=abc", machine=GPUS))
    assert said in str(problem)
    assert hub.asked[0][0].endswith("/resolve/abc/model_index.json")


def test_a_typo_in_a_relative_folder_says_both(ask, endpoint, served):
    url, hub = served
    endpoint(url)
    hub.status, hub.code = 401, "RepoNotFound"
    (problem,) = problems(ask("model.path=models/flux-local"))
    assert str(problem).startswith("model.path=models/flux-local: no folder here, and http://127.0.0.1:")
    assert "has no repository of this name" in problem.rule


def test_a_hub_that_does_not_answer_is_told(ask, endpoint):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    endpoint(f"http://127.0.0.1:{port}")
    (problem,) = problems(ask("model=flux", machine=GPUS))
    assert f"http://127.0.0.1:{port} can't be reached (Connection refused)" in problem.rule
    assert "model.path=FOLDER" in problem.instead


def test_a_server_that_speaks_something_else_is_told():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            peer, _ = server.accept()
            with peer:
                peer.sendall(b"SSH-2.0-OpenSSH\r\n")

        threading.Thread(target=answer, daemon=True).start()
        found = ask(f"http://127.0.0.1:{server.getsockname()[1]}", "a/b", None)
    assert found.flaw


def test_nobody_waits_for_the_network_when_something_else_is_wrong(ask, endpoint):
    endpoint("http://127.0.0.1:1")
    found = problems(ask("model=flux", "steps=0", machine=GPUS))
    assert [problem.value for problem in found] == ["steps=0"]


@pytest.mark.parametrize("url", ["", "nonsense", "http://:x", "http://127.0.0.1:99999", "http://[::1"])
def test_an_address_that_is_none_is_told_in_words(url):
    (problem,) = answer_problems(ModelConfig(path="owner/name"), url)
    assert "no weights in the cache" in problem.rule
    assert "can't be reached" in problem.rule
    (problem,) = answer_problems(ModelConfig(path="owner/name"), url, "vae/x.safetensors is missing")
    assert problem.rule.startswith("in the cache, vae/x.safetensors is missing; ")


@pytest.mark.parametrize("name", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"])
def test_a_token_is_found_where_the_library_finds_it(monkeypatch, tmp_path, name):
    from huggingface_hub import constants

    gated = ModelConfig(path="owner/name", gated=True, licence="https://hf.co/owner/name")
    for each in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert token() is None
    (problem,) = access_problems(gated)
    assert "the repository is gated: accept its licence first" in problem.rule
    assert "https://hf.co/owner/name" in problem.instead
    monkeypatch.setenv(name, "x")
    assert list(access_problems(gated)) == []
    monkeypatch.delenv(name)
    (tmp_path / "token").write_text("x")
    assert list(access_problems(gated)) == []
