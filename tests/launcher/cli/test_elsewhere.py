"""Which machine serves, and which is served."""

from __future__ import annotations

import pytest

from launcher.cli.elsewhere import served
from launcher.nodes import SECRET
from launcher.problems import Refused
from launcher.running import agent

GIVEN = {"NNODES": "2", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500", SECRET: "s" * 32}


@pytest.fixture
def environment(monkeypatch):
    def of(**given):
        for name in ("NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK", SECRET):
            monkeypatch.delenv(name, raising=False)
        for name, value in given.items():
            monkeypatch.setenv(name, value)

    return of


def test_all_but_the_first_machine_serve_it(composer, environment, monkeypatch):
    asked = []
    monkeypatch.setattr(agent, "serve", lambda node, timeout: asked.append((node.number, timeout)) or 5)
    environment(**GIVEN, NODE_RANK="1")
    assert served(composer, ["cluster=env", "cluster.join_timeout=7"]) == 5
    assert asked == [(1, 7.0)]
    assert served(composer, []) is None
    environment(**GIVEN, NODE_RANK="0")
    assert served(composer, ["cluster=env"]) is None
    environment()
    assert served(composer, ["cluster=env"]) is None
    environment(**GIVEN, NODE_RANK="9")
    with pytest.raises(Refused, match="NODE_RANK=9"):
        served(composer, ["cluster=env"])
