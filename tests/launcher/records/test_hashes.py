import hashlib
import os

import pytest

from launcher.records import hashes
from launcher.records.hashes import cached_sha256, weights


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_file_is_read_once(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"abc")
    assert cached_sha256(path) == hashlib.sha256(b"abc").hexdigest()
    monkeypatch.setattr(hashes, "sha256", lambda _: pytest.fail("read again"))
    assert cached_sha256(path) == hashlib.sha256(b"abc").hexdigest()


def test_a_file_that_changed_is_read_again(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"abc")
    cached_sha256(path)
    path.write_bytes(b"abd")
    os.utime(path, ns=(1, 2))
    assert cached_sha256(path) == hashlib.sha256(b"abd").hexdigest()


def test_what_is_kept_is_not_trusted_to_be_a_hash(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"abc")
    cached_sha256(path)
    (kept,) = hashes.cache().iterdir()
    kept.write_text("x" * 64)
    assert cached_sha256(path) == hashlib.sha256(b"abc").hexdigest()


def test_a_home_that_cannot_be_written_costs_time_only(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "a").write_bytes(b"abc")
    assert cached_sha256(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()


@pytest.mark.parametrize("base", ["", "here", "~"])
def test_a_user_without_a_home_gets_no_folder_of_that_name(tmp_path, monkeypatch, base):
    """A user who is not known: `~` stays as it is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", base)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    (tmp_path / "a.safetensors").write_bytes(b"abc")
    assert cached_sha256(tmp_path / "a.safetensors") == hashlib.sha256(b"abc").hexdigest()
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_file_of_the_hub_has_its_hash_in_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(hashes, "sha256", lambda _: pytest.fail("was read"))
    commit, digest = "c" * 40, "d" * 64
    folder = tmp_path / "models--a--b" / "snapshots" / commit
    (folder / "vae").mkdir(parents=True)
    (tmp_path / "models--a--b" / "blobs").mkdir()
    (tmp_path / "models--a--b" / "blobs" / digest).touch()
    (folder / "vae" / "x.safetensors").symlink_to(f"../../../blobs/{digest}")
    found = weights(folder)
    assert (found.commit, found.files) == (commit, {"vae/x.safetensors": digest})
    assert weights(folder, ["vae/x.safetensors"]) == found
