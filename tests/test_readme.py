"""Every command of the README and of the page on runs is run, but for `make test`, which is running."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from shared import ROOT, a_recipe, hermetic

from launcher.flux_tiny.vocabulary import COLOURS, PATTERNS, SCALES
from launcher.records.formats import FORMATS
from launcher.records.picture import save

TEXT = (ROOT / "README.md").read_text()
COMMANDS = [
    shlex.split(line, comments=True)
    for block in re.findall(r"```sh\n(.*?)```", TEXT + (ROOT / "outputs/README.md").read_text(), re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]
LAUNCHER = [
    list(words) for words in dict.fromkeys(tuple(w[3:]) for w in COMMANDS if w[:3] == ["python", "-m", "launcher"])
]
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"]
ROOMS = ["conf", "outputs", "attention_backends"]
NEEDS_GPU = ["model=flux", "cp=ring_anything", "height=1000"]


def test_all_commands_are_known():
    assert [words for words in COMMANDS if words[0] != "python"] == [["make", "demo"], ["make", "test"]]
    assert NEEDS_GPU in LAUNCHER


@pytest.mark.slow
@pytest.mark.parametrize("words", LAUNCHER, ids=" ".join)
def test_a_command_of_the_readme(launch, tmp_path, words):
    if "cat.png" in words:  # a small one
        config = {"prompt": "waves", "seed": 1, "height": 32, "width": 32, "steps": 1, "runtime": {"device": "cpu"}}
        save([Image.new("RGB", (32, 32))], tmp_path / "cat.png", a_recipe(config=config), FORMATS["png"])
    if "fox.png" in words:
        text = PngInfo()
        text.add_text("parameters", "a fox\nSteps: 20, Sampler: Euler, CFG scale: 3.5, Seed: 7, Size: 512x512")
        Image.new("RGB", (32, 32)).save(tmp_path / "fox.png", pnginfo=text)
    (tmp_path / "outputs").mkdir()
    ended = launch(*words)
    if words == NEEDS_GPU:  # what it does on a machine without GPUs; with them it needs the weights
        assert "python -m launcher model=flux_tiny cp=ring_anything height=1000" in ended.err
        return
    assert ended.code == 0, ended.err
    assert {"--help", "plan", "models", "runs", "from"} & set(words) or ended.runs


@pytest.mark.slow
def test_the_table_of_the_readme_is_what_a_plan_prints(launch):
    (table,) = re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL)
    (words,) = [words for words in LAUNCHER if "plan" in words and "--json" not in words]
    assert table in launch(*words).out


@pytest.mark.slow
def test_the_python_of_the_readme(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    check = "\nassert picture.size == (328, 200), picture.size\n"
    subprocess.run([sys.executable, "-c", code + check], cwd=tmp_path, env=hermetic(), check=True)


def test_make_demo_is_the_line_that_the_readme_shows():
    makefile = (ROOT / "Makefile").read_text()
    (line,) = re.findall(r"^demo:.*\n\t.*/python (-m launcher .*)$", makefile, re.MULTILINE)
    assert shlex.split(line)[2:] in LAUNCHER


def test_the_readme_lists_the_bundled_models_vocabulary():
    for names in (PATTERNS, COLOURS, SCALES):
        assert ", ".join(names) in " ".join(TEXT.split())


@pytest.mark.parametrize("page", [*PAGES, *(f"{room}/README.md" for room in ROOMS)])
def test_a_pages_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!http)([^)#]*)[^)]*\)", (ROOT / page).read_text())
    advisories = "../../security/advisories/new"  # GitHub's page, beside the repository's files
    assert links
    assert not [link for link in links if link != advisories and not (ROOT / page).parent.joinpath(link).exists()]
