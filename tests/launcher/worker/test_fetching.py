"""What the hub has is fetched once for all ranks of a machine."""

import dataclasses
import json
import os
import re
import subprocess
import sys

import pytest
from hub import COMMIT, hub
from shared import a_job

from launcher.families.weights import BUNDLED
from launcher.records.files import sha256
from launcher.wire.jobs import PartFile

RANK = """
import json
import sys
from huggingface_hub import constants
from launcher.worker import fetching
from launcher.worker.fetching import fetch, hashes
from launcher.wire.jobs import Load, PartFile
fetching.TOLD_EVERY, constants.DOWNLOAD_CHUNK_SIZE = 0.05, 1 << 16  # as of a file of gigabytes, that takes minutes
given = json.loads(sys.argv[1])
parts = tuple(PartFile(**{**part, "patterns": tuple(part["patterns"])}) for part in given.pop("replaced"))
load = Load(**{**given, "replaced": parts, "fused": ()})
told = []
folder, found = fetch(load, told.append)
print(json.dumps([found[0].path, hashes(load, found), told]))
"""


@pytest.mark.slow
def test_ranks_fetch_a_part_once_and_all_read_the_cache(tmp_path):
    (weights,) = (BUNDLED / "transformer").glob("*.safetensors")
    part = PartFile("transformer", "transformer", 0, "model.transformer", "a/b", None, ("transformer/*",))
    load = json.dumps(dataclasses.asdict(dataclasses.replace(a_job().load, path=str(BUNDLED), replaced=(part,))))
    with hub({"a/b": BUNDLED}, pause=0.1) as served:
        environment = os.environ | {"HF_ENDPOINT": served.url, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
        environment.pop("HF_HUB_OFFLINE", None)
        command = [sys.executable, "-c", RANK, load]
        ranks = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        said = [json.loads(rank.communicate(timeout=120)[0]) for rank in ranks]
    place = tmp_path / "hub" / "models--a--b" / "snapshots" / COMMIT / "transformer"
    assert [[where, found] for where, found, _ in said] == [[str(place), {"model.transformer": sha256(weights)}]] * 2
    silent, telling = sorted((told for _, _, told in said), key=len)
    assert not silent  # one tells, not each rank
    assert telling == sorted(telling, key=lambda line: int(re.fullmatch(r"fetching, (\d+) MB", line)[1]))
    assert len(set(telling)) > 2
    assert sorted(served.sent) == sorted(f"transformer/{path.name}" for path in (BUNDLED / "transformer").iterdir())
