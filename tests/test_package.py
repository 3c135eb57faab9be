"""The wheel holds all that a run needs, and its console script works in an environment that has nothing of ours."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from shared import ROOT, hermetic

import launcher

pytestmark = pytest.mark.slow

TWO_RANKS = """
from importlib.util import find_spec

import attention_backends
import tiny
import torch
import torch.distributed as dist

assert not any(map(find_spec, ("accelerate", "hydra", "omegaconf", "peft", "psutil", "transformers")))
model, inputs = tiny.flux(), tiny.flux_inputs(image=13, text=5)
with torch.no_grad():
    alone = model(**inputs)[0]
    dist.init_process_group("gloo")
    attention_backends.enable(model, ring_degree=2, ring_anything=True)
    assert (model(**inputs)[0] - alone).abs().max() < 1e-12
    assert attention_backends.counters().bytes
"""


@pytest.fixture(autouse=True)
def nothing_of_this_checkout(monkeypatch):
    """An environment variable would let the checkout's packages in before the wheel's."""
    monkeypatch.delenv("PYTHONPATH", raising=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # By way of the source distribution: straight from the checkout, what build/ still holds would be in it too.
    words = ["-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run([sys.executable, *words], check=True, capture_output=True, cwd=folder)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_every_configuration_and_the_bundled_model(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert f"launcher/conf/{path.relative_to(ROOT / 'conf')}" in names
    pipeline = ROOT / "launcher" / "flux_tiny" / "pipeline"
    for path in pipeline.rglob("*"):
        assert path.is_dir() or str(path.relative_to(ROOT)) in names
    for package in ("launcher", "attention_backends"):
        for path in (ROOT / package).rglob("*.py"):
            assert str(path.relative_to(ROOT)) in names
    assert not [name for name in names if name.startswith(("tests", "outputs"))]


def test_the_version_is_told_in_one_place(wheel):
    assert f"-{launcher.__version__}-" in wheel.name
    assert not [
        name for name in ("pyproject.toml", "CITATION.cff") if launcher.__version__ in (ROOT / name).read_text()
    ]


def installed(wheel: Path, folder: Path, lent: Path) -> Path:
    """An environment with this wheel; a .pth file lends it packages, which doesn't lend this checkout's own install."""
    venv.create(folder, with_pip=False)
    site = next((folder / "lib").glob("python*/site-packages"))
    (site / "lent.pth").write_text(f"{lent}\n")
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(folder / "bin" / "python"),
        "install",
        "--no-deps",
        "--quiet",
    ]
    subprocess.run([*install, "--ignore-installed", str(wheel)], check=True, cwd=folder)
    return folder


def test_the_console_script_works_from_the_wheel(wheel, tmp_path):
    env = installed(wheel, tmp_path / "env", Path(sysconfig.get_paths()["purelib"]))
    where = subprocess.run(
        [env / "bin" / "python", "-c", "import launcher; print(launcher.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(env) in where.stdout
    words = ["cp=ring_anything", "runtime=cpu", "height=40", "width=40", "steps=1"]
    result = subprocess.run(
        [env / "bin" / "launcher", *words], cwd=tmp_path, env=hermetic(), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "outputs").rglob("*.png"))) == 1


def test_attention_backends_works_with_torch_and_diffusers_alone(wheel, tmp_path):
    """Two ranks, started by torchrun, in an environment of these two and what they require."""
    lent = tmp_path / "lent"
    lent.mkdir()
    for name in required("torch", "diffusers"):
        for top in {file.parts[0] for file in metadata.files(name) or []} - {"..", "__pycache__"}:
            where = Path(metadata.distribution(name).locate_file(top))
            if where.exists() and not (lent / top).exists():  # two may share a namespace
                (lent / top).symlink_to(where)
    env = installed(wheel, tmp_path / "env", lent)
    (tmp_path / "two_ranks.py").write_text(TWO_RANKS)
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(tmp_path / "two_ranks.py")]
    helpers = {"PYTHONPATH": str(ROOT / "tests" / "attention_backends" / "helpers")}
    result = subprocess.run(
        [env / "bin" / "python", *words],
        cwd=tmp_path,
        env=hermetic(**helpers),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def required(*names: str) -> set[str]:
    """These distributions and all that they require."""
    found, wanted = set(), list(names)
    while wanted:
        name = wanted.pop().lower().replace("_", "-")
        if name not in found:
            found.add(name)
            needs = map(Requirement, metadata.requires(name) or [])
            wanted += [need.name for need in needs if not need.marker or need.marker.evaluate({"extra": ""})]
    return found
