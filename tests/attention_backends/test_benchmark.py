"""The benchmark starts its ranks, measures and prints a table; its figures are no tests."""

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_a_small_run_ends_in_a_table():
    words = ["--ranks", "2", "--tokens", "65", "--turns", "2", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "attention_backends.benchmark", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    table = {row["row"]: row for row in told["table"]}
    for peer in ("cache-dit", "yunchang"):  # each has a row, or a word on why not
        assert any(name.startswith(peer) for name in (*table, *told["absent"]))
    assert {"diffusers ring_anything", "ring gather", "ring staged", "limit: wire only"} <= set(table)
    for name, row in table.items():
        assert row["ms_min"] > 0
        assert (row["error"] is None) == name.startswith("limit")
        assert row["error"] is None or row["error"] < 1e-5
        assert ("bytes" in row) == name.startswith(("ring", "ulysses", "attention2d", "limit"))


@pytest.mark.slow
def test_a_step_is_measured_with_the_wire_hidden_and_not():
    words = ["--step", "--tokens", "65", "--text", "16", "--hidden", "64", "--layers", "3", "--turns", "4", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "attention_backends.benchmark", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    table = {row["row"]: row for row in json.loads(done.stdout)["table"]}
    assert table.pop("one rank")["to_compute"] == 1.0
    limits = {name: table.pop(name) for name in list(table) if name.startswith("limit: ")}
    assert len(limits) == 3
    assert all(row["ms_min"] > 0 for row in limits.values())
    assert set(table) == {f"{way}, {told}" for way in ("ring", "ulysses") for told in ("nothing hidden", "wire hidden")}
    for row in table.values():
        assert row["error"] < 1e-5
        assert row["to_compute"] > 0
        assert row["to_limit"] > 0
        assert row["by_model"] > 0
    assert table["ring, nothing hidden"]["bytes"] == table["ring, wire hidden"]["bytes"]
