"""The package is a distribution of its own: torch, diffusers and what they need are enough."""

import os
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest
from packaging.requirements import Requirement
from shared import ROOT

SCRIPT = """
import sys

import torch
import torch.distributed as dist
from diffusers import FluxTransformer2DModel

import attention_backends

rank, store = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
model = FluxTransformer2DModel(
    patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
    joint_attention_dim=4, pooled_projection_dim=4, axes_dims_rope=(2, 2, 4),
)
for parameter in model.parameters():
    torch.nn.init.constant_(parameter, 0.1)
inputs = {
    "hidden_states": torch.linspace(0, 1, 20).reshape(1, 5, 4), "encoder_hidden_states": torch.ones(1, 3, 4),
    "pooled_projections": torch.ones(1, 4), "timestep": torch.ones(1), "img_ids": torch.ones(5, 3),
    "txt_ids": torch.ones(3, 3), "return_dict": False,
}
with torch.no_grad():
    whole = model(**inputs)[0]
    attention_backends.enable(model, mode="ring_anything", ring_degree=2)
    assert (model(**inputs)[0] - whole).abs().max() < 1e-5
dist.destroy_process_group()
here = sys.argv[3]
strangers = ("launcher", "hydra", "omegaconf", "accelerate")
print(attention_backends.__file__.startswith(here), *[name for name in strangers if name in sys.modules])
"""


def needed(names: list[str]) -> dict[str, None]:
    """These distributions and all that they require, for this platform and without extras."""
    found: dict[str, None] = {}
    while names:
        name = names.pop().lower().replace("_", "-")
        if name not in found:
            found[name] = None
            requirements = map(Requirement, distribution(name).requires or [])
            names += [each.name for each in requirements if not each.marker or each.marker.evaluate({"extra": ""})]
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder of packages that holds this one, built and installed, and links to torch, diffusers and their own."""
    folder = tmp_path_factory.mktemp("alone")
    source = folder / "source"
    copytree(ROOT / "attention_backends", source, ignore=ignore_patterns("__pycache__", "build", "*.egg-info"))
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*install, "--target", str(folder / "site"), str(source)], check=True, cwd=folder)
    for name in needed(["torch", "diffusers"]):
        installed = distribution(name)
        for top in {file.parts[0] for file in installed.files or []} - {"..", "__pycache__"}:
            (folder / "site" / top).symlink_to(str(installed.locate_file(top)))
    return folder / "site"


@pytest.mark.slow
def test_it_runs_where_only_torch_and_diffusers_are(site, tmp_path):
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}
    for name in ("launcher", "hydra", "omegaconf", "accelerate"):
        assert not (site / name).exists()
    command = [sys.executable, "-S", "-c", SCRIPT]  # -S: without this environment's own packages
    ranks = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / "store"), str(site)],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for rank in ranks:
        out, err = rank.communicate(timeout=200)
        assert rank.returncode == 0, err
        assert out.split() == ["True"]


def test_the_distribution_holds_every_file(site):
    package = ROOT / "attention_backends"
    for path in [*package.rglob("*.py"), package / "py.typed"]:
        if "build" not in path.parts:
            assert (site / path.relative_to(ROOT)).is_file()
