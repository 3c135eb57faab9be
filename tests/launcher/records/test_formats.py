"""The table of output formats against Pillow, and against the options that a user can choose."""

import subprocess
import sys

import yaml
from PIL import Image
from shared import ROOT

from launcher.records.formats import FORMATS, Texts


def test_every_row_has_its_option_and_every_option_its_row():
    options = {path.stem: yaml.safe_load(path.read_text())["format"] for path in (ROOT / "conf/output").glob("*.yaml")}
    assert options == {name: name for name in ("auto", *FORMATS)}


def test_pillow_writes_what_the_table_names(tmp_path):
    for name, format in FORMATS.items():
        if format.film:
            continue  # test_film.py
        path = tmp_path / f"x{format.suffix}"
        format.write([Image.new("RGB", (3, 2))], path, Texts("{}"), None)
        with Image.open(path) as picture:
            assert (picture.format or "").lower() == name == format.name
            assert Image.registered_extensions()[format.suffix] == picture.format


def test_the_table_costs_no_import_of_pillow():
    code = "import sys, launcher.records.formats; sys.exit(bool({'PIL', 'av', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
