import platform
import subprocess

import pytest

from launcher.records.surroundings import checkout, machine


def git(folder, *words: str) -> str:
    settings = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", "-C", folder, *settings, *words], capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_a_checkout_has_its_commit_and_says_whether_it_was_changed(tmp_path):
    assert checkout(tmp_path) is None
    git(tmp_path, "init", "-q")
    checkout.cache_clear()
    assert checkout(tmp_path) is None  # no commit yet
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-qm", "a")
    checkout.cache_clear()
    found = checkout(tmp_path)
    assert found is not None
    assert (found.commit, found.dirty) == (git(tmp_path, "rev-parse", "HEAD").strip(), False)
    (tmp_path / "b").write_text("not known to git")
    checkout.cache_clear()
    assert checkout(tmp_path) == found
    (tmp_path / "a").write_text("2")
    checkout.cache_clear()
    assert checkout(tmp_path).dirty


def test_a_machine_is_told_without_its_name():
    found = machine(False)
    assert set(found) == {"system", "processor"}
    assert all(found.values())
    assert platform.node() not in str(found) or len(platform.node()) < 4
