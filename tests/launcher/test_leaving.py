"""SIGUSR1 asks for the end after the current picture, and interrupts nothing."""

from __future__ import annotations

import os
import signal

import pytest

from launcher import leaving
from launcher.cli.main import signals
from launcher.problems import Interrupted


def test_it_is_asked_for_by_a_signal_and_waits_for_the_next_moment():
    with signals():
        leaving.leave_if_asked()
        os.kill(os.getpid(), signal.SIGUSR1)
        with pytest.raises(Interrupted) as left:
            leaving.leave_if_asked()
    assert left.value.signum == signal.SIGUSR1
    with signals():  # another command line, in the same process
        leaving.leave_if_asked()
