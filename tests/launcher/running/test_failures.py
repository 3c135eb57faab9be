from launcher.running.failures import RankFailure, how_it_died, last_words, root

REPORT = """
Root Cause (first observed failure):
[0]:
  time      : 2026-01-01_00:00:00
  rank      : 1 (local_rank: 1)
  exitcode  : -9 (pid: 4242)
"""


def test_the_root_cause_is_the_first_that_is_not_about_communication():
    peer = RankFailure(0, "RuntimeError: [gloo/transport/tcp/pair.cc:547] Connection closed by peer", told=True)
    killed = RankFailure(1, "", told=False)
    own = RankFailure(2, "FloatingPointError: the latents are not finite", told=True)
    assert root([peer, killed]) is killed
    assert root([peer, own, killed]) is own
    assert root([peer]) is peer


def test_a_death_is_told_by_its_signal(tmp_path):
    (tmp_path / "start.log").write_text(REPORT)
    none = tmp_path / "none.log"
    assert "SIGKILL" in how_it_died(None, 4242, tmp_path / "start.log", none)
    assert "SIGSEGV" in how_it_died(-11, 1, none, none)
    assert "no last words" in how_it_died(None, 1, tmp_path / "start.log", none)
    assert "exit code 7" in how_it_died(7, 1, none, none)


def test_last_words_are_the_last_error(tmp_path):
    log = tmp_path / "x.log"
    log.write_text("one\nValueError: wrong\n  at exit\n")
    assert last_words(log) == "ValueError: wrong"
    log.write_text("one\ntwo\n\n")
    assert last_words(log) == "two"
