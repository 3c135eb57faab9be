"""What the hub has is fetched once for all ranks of a machine."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest
from hub import COMMIT, hub
from shared import a_job

from launcher.families.weights import BUNDLED
from launcher.records.files import sha256
from launcher.wire.protocol import PartFile

RANK = """
import sys
from launcher.worker.fetching import fetch, hashes
from launcher.wire.protocol import Load, PartFile
import json
given = json.loads(sys.stdin.read())
parts = tuple(PartFile(**{**part, "patterns": tuple(part["patterns"])}) for part in given.pop("replaced"))
load = Load(**{**given, "replaced": parts, "fused": ()})
folder, found = fetch(load)
print(json.dumps([found[0].path, hashes(load, found)]))
"""


@pytest.mark.slow
def test_ranks_fetch_a_part_once_and_all_read_the_cache(tmp_path):
    (weights,) = (BUNDLED / "transformer").glob("*.safetensors")
    part = PartFile("transformer", "transformer", 0, "model.transformer", "a/b", None, ("transformer/*",))
    load = json.dumps(dataclasses.asdict(dataclasses.replace(a_job().load, path=str(BUNDLED), replaced=(part,))))
    with hub({"a/b": BUNDLED}) as served:
        environment = os.environ | {"HF_ENDPOINT": served.url, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
        environment.pop("HF_HUB_OFFLINE", None)
        command = [sys.executable, "-c", RANK]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        ranks = [subprocess.Popen(command, env=environment, **pipes) for _ in range(2)]
        for rank in ranks:
            rank.stdin.write(load)
            rank.stdin.close()
        said = [json.loads(rank.stdout.read()) for rank in ranks]
        assert [rank.wait(120) for rank in ranks] == [0, 0]
    place = tmp_path / "hub" / "models--a--b" / "snapshots" / COMMIT / "transformer"
    assert said == [[str(place), {"model.transformer": sha256(weights)}]] * 2
    assert sorted(served.sent) == sorted(f"transformer/{path.name}" for path in (BUNDLED / "transformer").iterdir())
