"""What a rank says of its own end, in a line."""

import sys

import torch
from torch._inductor.exc import InductorError

from launcher.running.failures import RankFailure, root
from launcher.worker.__main__ import describe

TORCH = (
    "CUDA out of memory. Tried to allocate 2.44 GiB. GPU 0 has a total capacity of 79.18 GiB of which 1.25 GiB is free."
    " Including non-PyTorch memory, this process has 77.90 GiB memory in use. Of the allocated memory 76.00 GiB is "
    "allocated by PyTorch, and 1.31 GiB is reserved by PyTorch but unallocated. If reserved but unallocated memory is "
    "large try setting PYTORCH_ALLOC_CONF=expandable_segments:True to avoid fragmentation."
)


def test_a_full_gpu_is_told_with_its_numbers_and_without_advice_on_allocators():
    assert describe(RuntimeError(TORCH)) == "out of GPU memory (2.44 GiB asked for, 1.25 GiB free)"
    cublas = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
    for told in ("CUDA error: out of memory\nCUDA kernel errors might be", cublas):
        assert describe(RuntimeError(told)) == "out of GPU memory"


def test_a_full_gpu_of_another_rank_stays_that_ranks():
    told = describe(torch.OutOfMemoryError(f"rank 0 failed: {TORCH}"))
    own = describe(torch.OutOfMemoryError(TORCH))
    assert root([RankFailure(1, told, told=True), RankFailure(0, own, told=True)]).rank == 0


def test_a_rank_that_waits_too_long_for_another_says_for_how_long():
    gloo = "[/pytorch/gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 20000ms for recv operation to complete"
    told = describe(RuntimeError(gloo))
    assert told == "timed out: nothing came from another rank in the 20 s of runtime.timeout"
    assert RankFailure(1, told, told=True).suspicion


def test_a_thread_that_the_system_does_not_make_is_told_with_the_limits():
    for told in ("Resource temporarily unavailable", "can't start new thread"):
        assert describe(RuntimeError(told)).startswith("no thread can be started: memory or a limit ")


def test_memory_that_libraries_do_not_get_is_told_as_that():
    torchs = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
    libraries = ("Failed to import x:\nlibx.so: failed to map segment from shared object", "std::bad_alloc", torchs)
    compiling = InductorError(MemoryError(), sys._getframe())
    dynamo = RuntimeError('MemoryError: \n\nfrom user code:\n   File "transformer_flux.py", line 451, in forward')
    for error in (
        dynamo,
        *map(RuntimeError, libraries),
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        compiling,
    ):
        assert describe(error).startswith("out of memory, or of what a limit leaves of it (see ulimit -v")
    other = "rank 1 failed: RuntimeError: std::bad_alloc"  # which tells of it itself
    assert describe(RuntimeError(other)) == f"RuntimeError: {other}"


def test_other_errors_keep_their_words():
    assert describe(ValueError("one\ntwo")) == "ValueError: one"
    assert describe(FileNotFoundError(2, "No such file or directory", "/a/b.png")) == "No such file or directory: b.png"


def test_a_reason_that_is_missing_is_the_causes():
    error = RuntimeError("Failed to import x because of the following error:\n")
    error.__cause__ = MemoryError()
    assert describe(error).startswith("out of memory, or of what a limit ")
    error.__cause__ = ValueError("no")
    assert describe(error) == "RuntimeError: Failed to import x because of the following error: ValueError: no"


def test_a_library_that_fails_without_a_word_is_not_taken_for_one_that_gave_its_reason():
    """Seen in a rank that was given no more address space."""
    told = describe(SystemError("error return without exception set"))
    assert told.startswith("SystemError: error return without exception set: ")
    assert "as when memory or a limit is used up" in told
    assert describe(SystemError("bad argument to internal function")).endswith("internal function")
