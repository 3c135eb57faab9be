"""Corrupt weights as a run sees them: what the headers show is refused before a rank starts, the rest by the ranks."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from shared import Ended, command, hermetic

from launcher.families.weights import BUNDLED

pytestmark = pytest.mark.slow

FILE = "diffusion_pytorch_model.safetensors"
# Each flaw that ranks find costs them a start.
FOUND = ("renamed", "renamed_text", "nan", "nan_vae") if "FAMILY_SAMPLES" in os.environ else ("renamed", "nan_vae")


class Payload:
    """Unpickling it makes a file: the test looks for that."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def renamed(file: Path) -> str:
    """Change a byte of the header, which stays valid: one tensor has another name. Returns the name that is missing."""
    data = file.read_bytes()
    name = max(load_file(file), key=len)
    assert data.count(f'"{name}"'.encode()) == 1
    file.write_bytes(data.replace(f'"{name}"'.encode(), f'"{name[:-1]}~"'.encode()))
    return name


def not_finite(file: Path, dtype: torch.dtype = torch.float32) -> None:
    """Set one number of a tensor's data to NaN; the file stays whole."""
    tensors = load_file(file)
    bias = max((name for name in tensors if name.endswith("bias") and "out" in name), key=len)
    tensors[bias].view(-1)[0] = float("nan")
    save_file(tensors, file)


def flawed(model: Path, name: str) -> str:
    """Give a model a flaw that its ranks find, and return what they say of it."""
    if name == "renamed":
        return f"the files of transformer lack its weights {renamed(model / 'transformer' / FILE)}"
    if name == "renamed_text":
        return f"the files of text_encoder lack its weights {renamed(model / 'text_encoder' / 'model.safetensors')}"
    not_finite(model / {"nan": "transformer", "nan_vae": "vae"}[name] / FILE)
    return f"the {'latents are' if name == 'nan' else 'decoded picture is'} not finite in float32"


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> tuple[Ended, dict[str, str], Path]:
    """One sweep over models that each have another flaw, and last over the whole one; what each must be told."""
    place = tmp_path_factory.mktemp("models")
    names = ("truncated", "pickle", *FOUND)
    model = {name: Path(shutil.copytree(BUNDLED, place / name)) for name in names}
    file = model["truncated"] / "vae" / FILE
    file.write_bytes(file.read_bytes()[:-1])
    (model["pickle"] / "transformer" / FILE).write_bytes(pickle.dumps(Payload(place / "executed")))
    said = {"truncated": f"vae/{FILE} is ", "pickle": f"transformer/{FILE} is not a safetensors file"}
    for name in FOUND:
        said[name] = flawed(model[name], name)
    paths = ",".join([*map(str, model.values()), "bundled"])
    words = ["-m", "cp=none", "runtime=cpu", "height=64", "width=64", "steps=1", "seed=1", f"model.path={paths}"]
    result = subprocess.run(command(*words), cwd=place, env=hermetic(), capture_output=True, text=True, check=False)
    (sweep,) = (path.parent for path in place.rglob("multirun.yaml"))
    return Ended(result.returncode, result.stdout, result.stderr, sweep), said, place


def test_what_headers_show_is_refused_before_the_first_rank_starts(swept):
    ended, said, place = swept
    refused = [line for line in ended.out.splitlines() if line.startswith("refused ")]
    assert len(refused) == 2
    assert said["truncated"] in refused[0]
    assert "truncated or corrupt" in refused[0]
    assert said["pickle"] in refused[1]
    assert not (ended.folder / "0").exists()
    assert not (place / "executed").exists()


def test_what_the_ranks_find_is_told_and_no_picture_is_made_of_it(swept):
    ended, said, _ = swept
    failed = [line for line in ended.out.splitlines() if line.startswith("[") and "  failed  rank 0: " in line]
    assert len(failed) == len(FOUND), ended.out
    for number, (name, line) in enumerate(zip(list(said)[2:], failed, strict=True), start=2):
        assert said[name] in line
        folder = ended.folder / str(number)
        record = json.loads((folder / "run.json").read_text())
        assert record["status"] == "failed"
        assert said[name] in record["error"]
        assert str(ended.folder.parent) not in json.dumps(record)
        assert not list(folder.glob("*.png"))
        assert "Traceback" in (folder / "logs" / "rank0.log").read_text()


def test_the_whole_model_beside_them_runs(swept):
    ended, _, _ = swept
    assert ended.out.splitlines()[-3] == f"1 done, {len(FOUND)} failed, 2 refused"
    assert (ended.folder / str(2 + len(FOUND)) / "0000.png").exists()
    assert ended.code == 1
    assert ended.err == ""
