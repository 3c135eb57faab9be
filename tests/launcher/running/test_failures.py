"""Which of several failures is told, and in what words."""

import resource
import signal

import pytest

from launcher.running.failures import RankFailure, exit_codes, how_it_died, last_words, root

REPORT = """
Failures:
[1]:
  time      : 2026-01-01_00:00:00
  rank      : 0 (local_rank: 0)
  exitcode  : -15 (pid: 4241)
Root Cause (first observed failure):
[0]:
  time      : 2026-01-01_00:00:00
  rank      : 1 (local_rank: 1)
  exitcode  : -9 (pid: 4242)
"""
OWN = [
    "FloatingPointError: the latents are not finite",
    "RuntimeError: [enforce fail at third_party/gloo/gloo/transport/tcp/device.cc:84] ifa != nullptr. Unable to find "
    "address for: eth9",
    "DistBackendError: NCCL error in: NCCLUtils.cpp:77, unhandled cuda error: out of memory",
]
PEERS = [
    "RuntimeError: [gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1234",
    "RuntimeError: [gloo/transport/tcp/pair.cc:544] Read error [127.0.0.1]:1: Connection reset by peer",
    "RuntimeError: [gloo/transport/tcp/buffer.cc:132] Timed out waiting 600000ms for recv operation to complete",
    "RuntimeError: Application timeout caused pair closure",
    "DistBackendError: NCCL error: ncclRemoteError: A call failed possibly due to a network error",
    "DistStoreError: wait timeout after 600000ms, keys: /0",
]


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("peer", PEERS)
def test_what_follows_from_another_ranks_end_is_not_the_cause(own, peer):
    follows, cause = RankFailure(0, peer, told=True), RankFailure(1, own, told=True)
    killed = RankFailure(2, "", told=False, code=-signal.SIGKILL)
    ended = RankFailure(3, "", told=False, code=-signal.SIGTERM)
    assert root([ended, follows, cause, killed]) is cause
    assert root([ended, follows, killed]) is killed
    assert root([ended, follows]) is follows  # the starting process ends the others with SIGTERM
    somebodys = RankFailure(3, "", told=False, code=-signal.SIGTERM, first=True)
    assert root([somebodys, follows]) is somebodys  # no other had ended: it wasn't the starting process
    assert root([ended, RankFailure(4, "", told=False, code=-signal.SIGTERM)]) is ended


def test_of_two_causes_the_first_in_time_is_told():
    first, second = (RankFailure(rank, OWN[0], told=True) for rank in (1, 0))
    assert root([first, second]) is first


def test_a_death_is_told_by_its_signal(tmp_path):
    (tmp_path / "start.log").write_text(REPORT)
    assert exit_codes(tmp_path / "start.log") == {4241: -15, 4242: -9}
    none = tmp_path / "none.log"
    assert exit_codes(none) == {}
    assert "SIGKILL" in how_it_died(-9, none)
    assert "SIGSEGV" in how_it_died(-11, none)
    assert "signal 99" in how_it_died(-99, none)
    assert "no last words" in how_it_died(None, none)
    assert "exit code 7" in how_it_died(7, none)


def test_last_words_are_the_last_error(tmp_path):
    log = tmp_path / "x.log"
    log.write_text("one\nValueError: wrong\n  at exit\n")
    assert last_words(log) == "ValueError: wrong"
    log.write_text("one\ntwo\n\n")
    assert last_words(log) == "two"


def test_a_message_that_starts_on_a_line_of_its_own_is_told(tmp_path):
    (tmp_path / "x.log").write_text("ValueError: \nInvalid log settings: nonsense\nValid settings:\nall\n")
    assert last_words(tmp_path / "x.log") == "ValueError: Invalid log settings: nonsense"


def test_a_limit_on_cpu_time_is_told_beside_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (60, 60))
    assert "memory runs out, or the 60 s of CPU time that ulimit -t allows" in how_it_died(-9, tmp_path / "log")
