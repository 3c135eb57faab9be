"""The tables say the same as what runs, and arguments of `enable` map to one row."""

import importlib.util
import inspect
from importlib import import_module, metadata

import pytest
from diffusers.models import attention_dispatch
from diffusers.models.attention_dispatch import AttentionBackendName

from attention_backends import enable
from attention_backends.catalog import KERNELS, MODES, NOT_SUPPORTED, mode_name

DEGREES = {"one": 1, "many": 3, "any": 2}


@pytest.mark.parametrize("mode", [mode for mode in MODES.values() if mode.parallel], ids=lambda mode: mode.name)
def test_a_row_is_what_its_own_arguments_mean(mode):
    assert mode_name(DEGREES[mode.ring], DEGREES[mode.ulysses], **mode.flags) == mode.name
    assert set(mode.flags) <= set(inspect.signature(enable).parameters)
    assert callable(import_module(f"attention_backends.{mode.algorithm}").context_parallel_attention)


def test_an_even_mode_names_one_for_any_length():
    assert {mode.name: mode.any_length() for mode in MODES.values() if mode.even} == {
        "ring": "ring_anything",
        "ulysses": "ulysses_anything",
        "unified": "unified_anything",
    }
    assert MODES["ring"].any_length(masked=True) == "unified_anything"
    assert MODES["ulysses"].any_length(masked=True) == "ulysses_anything"
    for mode in MODES.values():
        assert not MODES[mode.any_length()].even
        assert MODES[mode.any_length(masked=True)].masks


def test_one_process_is_a_mode_without_ranks():
    none = MODES["none"]
    assert not any((none.parallel, none.has_ring, none.has_ulysses, none.scheduled, none.grid, none.algorithm))


def test_an_unknown_flag_is_refused():
    with pytest.raises(ValueError, match="ring_something=True: unknown mode; choose from ulysses_anything"):
        mode_name(2, 1, ring_something=True)


def test_kernel_names_are_diffusers_own():
    assert (set(KERNELS) - {"auto"}) | set(NOT_SUPPORTED) == {member.value for member in AttentionBackendName}
    assert not set(KERNELS) & set(NOT_SUPPORTED)


def test_the_oldest_versions_are_diffusers_own():
    theirs = {"flash": attention_dispatch._REQUIRED_FLASH_VERSION, "sage": attention_dispatch._REQUIRED_SAGE_VERSION}
    assert {name: KERNELS[name].package.least for name in theirs} == theirs


@pytest.mark.parametrize(
    ("found", "version", "said"),
    [
        (False, None, "needs the package sageattention, which is not installed"),
        (True, "1.0.6", "needs the package sageattention from version 2.1.1 on, and 1.0.6 is installed"),
        (True, "2.1.1", ""),
        (True, "2.10.0.post1+cu130", ""),
        (True, None, ""),
    ],
)
def test_a_package_that_is_missing_or_too_old_is_told(monkeypatch, found, version, said):
    def told(name: str) -> str:
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object() if found else None)
    monkeypatch.setattr(metadata, "version", told)
    assert (KERNELS["sage"].missing(), KERNELS["auto"].missing()) == (said, "")
