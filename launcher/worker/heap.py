"""glibc's heap: memory that is freed goes back to the system.

glibc keeps what is smaller than the largest that was freed so far, up to 32 MiB, in a heap, where tensors that come and
go leave holes. With a transformer of 15 blocks of 71 to 170 MB, quantised as they loaded on two ranks, a rank held
700 MiB that nothing was in; Wan's tiny VAE, which decoded 9 frames of 512 x 512, 170 to 200 of 800 MiB, and 240 to 340
when it was done; a warm rank of flux_tiny, which decoded 1000 x 1000 pixels after other sizes, 80 to 280 of 1,150 MB.
"""

from __future__ import annotations

import contextlib
import ctypes

# Of mallopt(3), with bytes. Unless they are set, glibc moves the second one up to 32 MiB, and the first to twice that.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
LARGE, LARGEST = 1 << 20, 32 << 20


def give_back() -> None:
    """Give back what is free now. After 1000 x 256 pixels of flux_tiny 35 to 120 MB stayed, and were the next job's."""
    with contextlib.suppress(AttributeError):  # another libc
        ctypes.CDLL(None).malloc_trim(0)


def give_back_what_is_freed() -> None:
    """Have memory of tensors go back as it is freed, now and from now on.

    A step of a FLUX of 512 channels with 1,536 tokens takes a CPU 16% longer then: each tensor's pages are new.
    flux_tiny's 1000 x 1000 pixels are decoded in 1.2 s in place of 0.7.
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, LARGE)
    give_back()


def keep_what_is_freed() -> None:
    """Have it kept for what comes next, as glibc does once something large was freed."""
    with contextlib.suppress(AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(MMAP_THRESHOLD, LARGEST)
        libc.mallopt(TRIM_THRESHOLD, 2 * LARGEST)
