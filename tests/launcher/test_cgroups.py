"""Limits of control groups, in folders that look like the kernel's."""

import pytest

from launcher.cgroups import cpu_quota, memory


def group(path, **files):
    path.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (path / name.replace("__", ".")).write_text(f"{text}\n")


@pytest.fixture
def own(tmp_path):
    def write(text: str):
        (tmp_path / "own").write_text(text)
        return tmp_path / "own"

    return write


def test_version_2_in_a_container_and_below_a_limited_parent(tmp_path, own):
    root = tmp_path / "fs"
    group(root, cpu__max="max 100000", memory__max="max")
    assert cpu_quota(root, own("0::/\n")) is None
    assert memory(root, own("0::/\n")) is None
    group(root / "user" / "job", cpu__max="150000 100000", memory__max=1 << 30, memory__current=1 << 29)
    assert cpu_quota(root, own("0::/user/job\n")) == 1.5
    assert memory(root, own("0::/user/job\n")) == (1 << 30, 1 << 29)
    group(root / "user", cpu__max="100000 100000", memory__max=1 << 31, memory__current=(1 << 31) - 5)
    assert cpu_quota(root, own("0::/user/job\n")) == 1.0  # the parent has less
    assert memory(root, own("0::/user/job\n")) == (1 << 30, 5)
    assert cpu_quota(root, own("0::/elsewhere/outside\n")) is None  # as a container's own name for itself may be


@pytest.mark.parametrize("mounted", ["cpu,cpuacct", "cpu"])
def test_version_1(tmp_path, own, mounted):
    root = tmp_path / "fs"
    lines = f"5:memory:/docker/abc\n4:{mounted}:/docker/abc\n1:name=systemd:/x\n"
    group(root / mounted, cpu__cfs_quota_us=-1, cpu__cfs_period_us=100000)
    group(root / "memory", memory__limit_in_bytes=9223372036854771712, memory__usage_in_bytes=5)
    assert cpu_quota(root, own(lines)) is None
    assert memory(root, own(lines)) is None
    group(root / mounted, cpu__cfs_quota_us=200000, cpu__cfs_period_us=100000)  # a container shows its group as the top
    group(root / "memory", memory__limit_in_bytes=1 << 30, memory__usage_in_bytes=1 << 28)
    assert cpu_quota(root, own(lines)) == 2.0
    assert memory(root, own(lines)) == (1 << 30, (1 << 30) - (1 << 28))


@pytest.mark.parametrize("text", ["", "nonsense", "0", ":::", "0::", "5:memory"])
def test_odd_files_are_no_limit(tmp_path, own, text):
    group(tmp_path / "fs", cpu__max=text, memory__max=text)
    assert cpu_quota(tmp_path / "fs", own(text)) is None
    assert memory(tmp_path / "nothing", own(text)) is None
