"""Each name that Hydra keeps private and this program uses, by its name: a new Hydra without it fails here."""

import ast
import threading
from pathlib import Path

import pytest
import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_automatic_config_search_path
from omegaconf import OmegaConf
from omegaconf._utils import get_yaml_loader
from shared import ROOT

from launcher.config import hydra_seam
from launcher.config.compose import Composer, to_config
from launcher.config.paths import conf_dir

PRIVATE = {"hydra._internal.config_loader_impl", "hydra._internal.utils", "omegaconf._utils"}


def test_no_other_module_uses_hydras_private_names():
    for path in (ROOT / "launcher").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            names = [module] if module else [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            private = {name for name in names if name.startswith(("hydra._internal", "omegaconf._"))}
            assert private <= (PRIVATE if path.name == "hydra_seam.py" else set()), path


def test_the_loader_reads_conf_and_its_repository_lists_groups():
    search_path = create_automatic_config_search_path(None, None, str(conf_dir()))
    loader = ConfigLoaderImpl(config_search_path=search_path)
    assert "flux_tiny" in hydra_seam.groups(loader)["model"]
    assert sorted(loader.repository.get_group_options("model")) == sorted(loader.get_group_options("model"))


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML was built without libyaml")
def test_libyaml_reads_what_omegaconf_reads():
    texts = [path.read_text(encoding="utf-8") for path in sorted(conf_dir().rglob("*.yaml"))[::10]]
    texts += ["a: 1e3\nb: 2026-01-02\nc: 0x1F\nd: 1_0\ne: yes\nf: !!str 3\ng: '\u00e9'\n", "", "[]", "\ufeffa: 1"]
    for text in texts:
        assert yaml.load(text, Loader=hydra_seam.fast_loader()) == yaml.load(text, Loader=get_yaml_loader()), text
    for text in ("a: 1\na: 2", "a: [", "a:\n\tb: 1", "a: !!python/name:os.system", "a: \x00"):
        with pytest.raises(yaml.YAMLError):
            yaml.load(text, Loader=hydra_seam.fast_loader())


def test_the_folder_and_its_hydra_files(tmp_path):
    composed = Composer().compose([f"output.dir={tmp_path}", "steps=3"])
    folder = hydra_seam.put_into(composed, Path(hydra_seam.folder_name(composed, "hydra.run.dir")))
    assert folder == Path(hydra_seam.folder_name(composed, "hydra.run.dir"))  # the time and the id are drawn once
    assert folder.is_relative_to(tmp_path)
    assert not folder.exists()
    hydra_seam.save(composed, folder)
    assert OmegaConf.load(folder / ".hydra" / "overrides.yaml") == [f"output.dir=.../{tmp_path.name}", "steps=3"]
    assert OmegaConf.load(folder / ".hydra" / "config.yaml").steps == 3
    assert OmegaConf.load(folder / ".hydra" / "hydra.yaml").hydra.runtime.output_dir == f".../{folder.name}"


def test_hydras_files_name_no_folder_of_this_machine_and_no_secret(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [f"output.dir={tmp_path}/a", f"hydra.run.dir='{tmp_path}/b'", "+hydra.job.env_set.TOKEN=hf_secret"]
    composed = Composer().compose([*words, f"model.path={tmp_path}/c", f"prompt_file={tmp_path}/d"])
    hydra_seam.put_into(composed, tmp_path / "run")
    hydra_seam.save(composed, tmp_path / "run")
    written = {path.name: path.read_text() for path in (tmp_path / "run" / ".hydra").iterdir()}
    written["multirun.yaml"] = OmegaConf.to_yaml(hydra_seam.without_paths(composed))
    assert len(written) == 4
    for text in written.values():
        for found in (str(tmp_path), str(conf_dir()), str(Path.home()) + "/", "hf_secret"):
            assert found not in text
        OmegaConf.create(text)


def test_no_hydra_files_where_none_are_wanted(tmp_path):
    composed = Composer().compose(["hydra.output_subdir=null"])
    hydra_seam.save(composed, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_may_be_named_by_hydras_own_references(tmp_path):
    composed = Composer().compose([f"hydra.run.dir={tmp_path}/${{hydra:runtime.choices.cp}}", "cp=ring"])
    assert hydra_seam.folder_name(composed, "hydra.run.dir") == f"{tmp_path}/ring"


@pytest.mark.slow
def test_two_threads_compose_at_once():
    """Hydra's own classes keep one configuration for the whole process."""
    wrong: list[str] = []

    def compose(height: int) -> None:
        composer = Composer()
        for _ in range(4):
            composed = composer.compose([f"height={height}", f"hydra.run.dir=runs/${{hydra:job.name}}/{height}"])
            named = hydra_seam.folder_name(composed, "hydra.run.dir")
            if to_config(composed).height != height or named != f"runs/launcher/{height}":
                wrong.append(str(height))

    threads = [threading.Thread(target=compose, args=(height,)) for height in (100, 200, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("name", ["_internal", "core"])
def test_hydra_is_the_pinned_one(name):
    import hydra

    assert hydra.__version__.startswith("1.3.")
    assert hasattr(hydra, name)
