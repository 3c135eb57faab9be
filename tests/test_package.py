"""The wheel holds all that a run needs, and its console script works in an environment that has nothing of ours."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from shared import ROOT, hermetic

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    words = ["-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
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


def test_the_console_script_works_from_the_wheel(wheel, tmp_path):
    """The dependencies are lent by a .pth file, which does not lend this checkout's own editable install."""
    venv.create(tmp_path / "env", with_pip=False)
    env = tmp_path / "env"
    site = next((env / "lib").glob("python*/site-packages"))
    (site / "lent.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    install = [sys.executable, "-m", "pip", "--python", str(env / "bin" / "python"), "install", "--no-deps", "--quiet"]
    subprocess.run([*install, "--ignore-installed", str(wheel)], check=True, cwd=tmp_path)
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
