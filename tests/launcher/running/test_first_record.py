"""What is known of a run before it starts."""

from __future__ import annotations

import hashlib

from launcher.records.record import SCHEMA
from launcher.running.first_record import first_record, input_hashes, known_weights, resolved

SMALL = ["runtime=cpu", "height=20", "width=16", "steps=2"]


def test_the_first_record_is_of_a_run_that_is_running(ask):
    request = ask("cp=ring_anything", "cp.ring_degree=3", *SMALL, "seed=3")
    record = first_record(request, ["seed=3"], ["--config-dir", "mine"])
    assert (record.schema, record.status, record.files, record.error) == (SCHEMA, "running", (), None)
    assert record.command == "python -m launcher --config-dir mine seed=3"
    assert first_record(request, ["steps=2"], []).command == "python -m launcher steps=2 seed=3"
    assert (record.size.requested.height, record.size.rendered.height) == (20, 32)
    assert [sum(tokens) for tokens in zip(*(rank.values() for rank in record.tokens_per_rank), strict=True)] == [512, 2]
    assert len(record.tokens_per_rank) == 3


def test_what_was_left_out_is_filled_in(ask):
    request = ask("cp=auto", *SMALL)
    config = resolved(request)
    assert config["seed"] == request.seed is not None
    assert config["cp"]["mode"] == request.mode != "auto"
    assert config["runtime"]["device"] == "cpu"
    assert config["output"]["format"] == "png"
    assert config["model"]["path"] == "bundled"


def test_weights_are_known_by_the_hash_of_each_file(ask):
    request = ask(*SMALL)
    known = known_weights(request)
    assert known is not None
    name, told = next(iter(known.files.items()))
    folder = request.inputs.checkpoint.source
    with open(f"{folder}/{name}", "rb") as file:
        assert hashlib.sha256(file.read()).hexdigest() == told
    assert set(known.files) == set(request.inputs.checkpoint.files)


def test_weights_that_are_still_to_be_fetched_are_not_known(ask):
    assert known_weights(ask("model=flux", *SMALL)) is None


def test_a_file_that_is_read_as_it_is_has_its_hash(ask, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"abc")
    request = ask(*SMALL, f"lora.path={tmp_path}/x.safetensors")
    assert input_hashes(request) == {"lora.path": hashlib.sha256(b"abc").hexdigest()}
    assert input_hashes(ask(*SMALL)) == {}
    (tmp_path / "y.safetensors").write_bytes(b"y")
    request = ask(*SMALL, f"lora.path=[{tmp_path}/x.safetensors,{tmp_path}/y.safetensors]", "lora.scale=[1,0.5]")
    assert input_hashes(request)["lora.path[1]"] == hashlib.sha256(b"y").hexdigest()
    kept = {"path": "[.../x.safetensors,.../y.safetensors]", "scale": [1.0, 0.5], "name": "[x,y]"}
    assert resolved(request)["lora"] == kept | {"fuse": False, "stack": None}
