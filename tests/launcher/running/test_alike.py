"""Files of two machines that are one cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.running import alike
from launcher.wire.agents import Seen


def test_large_files_are_compared_by_their_size(tmp_path, monkeypatch):
    monkeypatch.setattr(alike, "SMALL", 3)
    (tmp_path / "a").write_text("1234")
    (tmp_path / "b").write_text("12")
    found = alike.listing(str(tmp_path))
    assert found["a"] == "4 bytes"
    assert len(found["b"]) == 64


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (Seen(True, {"a": "1", "b": "2"}), ""),
        (Seen(False, {"a": "1", "b": "2"}), "does not see the run's folder run: type output.dir=FOLDER"),
        (Seen(True, {"a": "1"}), "lacks b of the model in model: copy the model there"),
        (Seen(True, {"a": "1", "b": "2", "c": "3"}), "has another c of the model in model: copy"),
        (Seen(True, {"a": "2"}), "has another a of the model in model, and 1 other file differ: copy"),
    ],
)
def test_what_another_machine_sees_otherwise_is_named(seen, told):
    words = alike.difference(seen, {"a": "1", "b": "2"}, Path("run"), "model")
    assert words.startswith(told)
    assert bool(words) == bool(told)
