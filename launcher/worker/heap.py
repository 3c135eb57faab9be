"""glibc's heap: memory that is freed goes back to the system.

glibc keeps what is smaller than the largest that was freed so far, up to 32 MiB, in a heap, where tensors that come and
go leave holes. With a transformer of 15 blocks of 71 to 170 MB, quantised as they loaded on two ranks, a rank held
700 MiB that nothing was in; Wan's tiny VAE, which decoded 9 frames of 512 x 512, 170 to 200 of 800 MiB, and 240 to 340
when it was done.
"""

from __future__ import annotations

import contextlib
import ctypes

MMAP_THRESHOLD = -3, 1 << 20  # of mallopt(3), in bytes


def give_back_what_is_freed() -> None:
    """Have memory of tensors go back as it is freed, now and from now on."""
    with contextlib.suppress(AttributeError):  # another libc
        libc = ctypes.CDLL(None)
        libc.mallopt(*MMAP_THRESHOLD)
        libc.malloc_trim(0)
