"""The benchmark starts its ranks, measures and prints a table; its figures are no tests."""

import json
import subprocess
import sys

import pytest

from attention_backends import benchmark


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
    assert [name.partition(",")[0].removeprefix("limit: ") for name in limits] == [
        *("compute only", "wire only", "wire only", "wire beside compute", "wire beside compute")
    ]
    assert all(row["ms_min"] > 0 for row in limits.values())
    assert set(table) == {f"{way}, {told}" for way in ("ring", "ulysses") for told in ("nothing hidden", "wire hidden")}
    for row in table.values():
        assert row["error"] < 1e-5
        assert row["to_compute"] > 0
        assert row["to_limit"] > 0
        assert row["by_model"] > 0
    assert table["ring, nothing hidden"]["bytes"] == table["ring, wire hidden"]["bytes"]
    hidden = {name for name, row in {**table, **limits}.items() if "hidden" in row}
    assert hidden == {f"{way}, wire hidden" for way in ("ring", "ulysses")} | {
        f"limit: wire beside compute, {way}" for way in ("ring", "ulysses")
    }


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--ranks 1", "--ranks 1 is too few: type 2 or more"),
        ("--tokens 1", "--tokens 1 is too few: type 2 or more"),
        ("--head-dim 0", "--head-dim 0 is too few: type 1 or more"),
        ("--turns 0", "--turns 0 is too few: type 1 or more"),
        ("--layers 3", "--layers is nothing without --step"),
        ("--step --head-dim 64", "--head-dim is nothing with --step: type --hidden"),
        ("--step --hidden 100", "--hidden 100 does not divide into heads of 64: type 64 or 128"),
        ("--step --layers 2 --double 3", "--double 3 of --layers 2: type 2 or less"),
        ("--step --double -1", "--double -1 is too few: type 0 or more"),
        ("--step --tokens 512", "--text 512 of --tokens 512: type 511 or less"),
        ("--device cuda --ranks 999", "--ranks 999, and torch sees "),
    ],
)
def test_what_cannot_be_measured_is_told_before_a_rank_starts(words, told, capsys, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(SystemExit):
        benchmark.asked(words.split())
    assert told in capsys.readouterr().err


def test_ranks_are_who_started_them(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert benchmark.asked([]).ranks == benchmark.asked(["--ranks", "3"]).ranks == 3
    with pytest.raises(SystemExit):
        benchmark.asked(["--ranks", "2"])
    assert "3 are started already" in capsys.readouterr().err
