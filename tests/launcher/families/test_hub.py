import socket
import urllib.request

import pytest
from shared import GPUS

from launcher.families.hub import connection_flaw
from launcher.rules import problems


@pytest.fixture
def endpoint(monkeypatch, tmp_path):
    """The hub's address, as one that a test chooses; nothing is cached, a token is there, no proxy."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_TOKEN", "x")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(urllib.request, "getproxies", dict)
    return lambda url: monkeypatch.setattr(constants, "ENDPOINT", url)


def test_a_hub_that_answers_is_enough_and_one_that_does_not_is_told(ask, endpoint):
    request = ask("model=flux", machine=GPUS)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        endpoint(f"http://127.0.0.1:{port}")
        assert problems(request) == []
    (problem,) = problems(request)
    assert f"http://127.0.0.1:{port} can't be reached (Connection refused)" in problem.rule
    assert "model.path=FOLDER" in problem.instead


def test_nobody_waits_for_the_network_when_something_else_is_wrong(ask, endpoint):
    endpoint("http://127.0.0.1:1")
    found = problems(ask("model=flux", "steps=0", machine=GPUS))
    assert [problem.value for problem in found] == ["steps=0"]


@pytest.mark.parametrize("url", ["", "nonsense", "http://:x", "http://127.0.0.1:99999", "http://[::1"])
def test_an_address_that_is_none_is_told_in_words(url):
    assert connection_flaw(url)
