"""Headers of safetensors files: read as the library writes them, refused in words whatever else they hold."""

import contextlib
import json
import struct

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from launcher.families.safetensors import flaw, read_header
from launcher.families.weights import BUNDLED
from launcher.reading import UnreadableError


def written(path, header: object, data: bytes = b"") -> object:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_a_header_says_what_the_library_says(tmp_path):
    path = tmp_path / "x.safetensors"
    tensors = {"a": torch.zeros(3), "b": torch.ones(2, 5, dtype=torch.bfloat16), "empty": torch.zeros(0, 4)}
    save_file(tensors, path, {"k": "v"})
    found = read_header(path)
    assert {name: (tensor.shape, tensor.elements) for name, tensor in found.items()} == {
        name: (tuple(tensor.shape), tensor.numel()) for name, tensor in tensors.items()
    }
    assert flaw(path) is None


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_type_of_the_installed_library_is_known(tmp_path):
    names = [name for name in dir(torch) if isinstance(getattr(torch, name), torch.dtype)]
    saved = 0
    for name in names:
        try:
            save_file({"x": torch.zeros(4, dtype=getattr(torch, name))}, tmp_path / f"{name}.safetensors")
        except (KeyError, RuntimeError, TypeError, ValueError, NotImplementedError):
            continue  # torch makes none of it, or the library writes none
        assert flaw(tmp_path / f"{name}.safetensors") is None, name
        saved += 1
    assert saved >= 12


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not a safetensors file"),
        (b"abc", "is not a safetensors file"),
        (b"\xff" * 64, "is not a safetensors file"),
        (b"\x05\0\0\0\0\0\0\0[1,2]", "its header is not a JSON object"),
        (b"\x02\0\0\0\0\0\0\0{}x", "truncated or corrupt"),
        (b"\x02\0\0\0\0\0\0\0\xff\xff", "its header is not JSON"),
    ],
)
def test_what_is_none_is_told(tmp_path, content, said):
    (tmp_path / "x").write_bytes(content)
    assert said in flaw(tmp_path / "x")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"dtype": "F32", "shape": [1], "data_offsets": [0, "4"]}, "data_offsets of w are odd"),
        ({"dtype": "F32", "shape": [1 << 60], "data_offsets": [0, 4]}, "does not fit its 4 bytes"),
        ({"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}, "are odd"),
        ({"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}, "are odd"),
        ({"dtype": "F32", "shape": [1 << 62] * 100_000, "data_offsets": [0, 4]}, "are odd"),
        ({"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}, "does not fit"),
        ({"dtype": "F31", "shape": [1], "data_offsets": [0, 4]}, "the unknown dtype F31"),
        ({"dtype": 3, "shape": [1], "data_offsets": [0, 4]}, "are odd"),
        ({"shape": [1], "data_offsets": [0, 4]}, "lacks its dtype"),
        ({"dtype": "F32", "shape": 1, "data_offsets": [0, 4]}, "lacks its dtype"),
        ([], "lacks its dtype"),
        (None, "lacks its dtype"),
    ],
)
def test_an_odd_entry_is_named(tmp_path, entry, said):
    assert said in flaw(written(tmp_path / "x", {"w": entry}, b"1234"))


def test_a_header_nested_200_000_deep_is_told(tmp_path):
    deep = b'{"a":' * 200_000 + b"1" + b"}" * 200_000
    assert "its header is not JSON" in flaw(written(tmp_path / "x", deep))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
)
entries = st.fixed_dictionaries(
    {"dtype": st.sampled_from(["F32", "BF16", "F4", "x"]), "shape": st.lists(st.integers(-1, 3), max_size=3)},
    optional={"data_offsets": st.tuples(st.integers(-1, 30), st.integers(-1, 30)) | json_values},
)


@pytest.mark.slow
@settings(max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=80)
    | st.builds(
        lambda header, data: struct.pack("<Q", len(text := json.dumps(header).encode())) + text + data,
        json_values | st.dictionaries(st.text(max_size=3), entries | json_values, max_size=3),
        st.binary(max_size=30),
    )
)
def test_whatever_is_in_a_file_it_is_read_or_told(tmp_path, content):
    """And what is read here is read by the library as well, which knows nothing of this one."""
    path = tmp_path / "x"
    path.write_bytes(content)
    with contextlib.suppress(UnreadableError):
        names = set(read_header(path))
        with safe_open(path, "np") as file:
            assert set(file.keys()) == names


def test_the_bundled_files_are_whole():
    for path in BUNDLED.rglob("*.safetensors"):
        with safe_open(path, "np") as file:
            assert set(file.keys()) == set(read_header(path))
            assert all(np.asarray(file.get_slice(name).get_shape()).size >= 0 for name in file.keys())  # noqa: SIM118
