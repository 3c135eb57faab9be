"""Memory of tensors that are freed between others that stay: what a process keeps of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

MIB = 1 << 20
SCRIPT = """
import sys, torch
from launcher.worker import surroundings
from launcher.worker.heap import give_back_what_is_freed, keep_what_is_freed

def resident():
    (line,) = (line for line in open("/proc/self/status") if line.startswith("VmRSS"))
    return int(line.split()[1]) << 10

torch.ones(7 << 20)  # freed at once: from then on glibc keeps what is smaller than its 28 MiB
if sys.argv[1] in ("back", "again"):
    give_back_what_is_freed()
if sys.argv[1] == "again":
    keep_what_is_freed()
before, stay, go = resident(), [], []
for _ in range(100):
    go.append(torch.ones(1 << 19))
    stay.append(torch.ones(1 << 10))
del go
if sys.argv[1] == "job":
    surroundings.reset_peak_memory()
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_memory_goes_back_as_it_is_freed():
    kept = {}
    for how in ("back", "not", "again", "job"):
        done = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True)
        kept[how] = int(done.stdout)
    assert max(kept["back"], kept["job"]) < 20 * MIB < 150 * MIB < min(kept["not"], kept["again"])
