"""Signals that wait, and processes that end with us."""

from __future__ import annotations

import os
import signal
import sys
import threading

import pytest

from dtype_sampler.commands.interrupts import Interrupts, Terminated

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@pytest.fixture(autouse=True)
def _main_thread():
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread alone")
    # Under `nohup`, or in the background of a shell, these tests are told to ignore some.
    wanted = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    yield
    after = {number: signal.getsignal(number) for number in wanted}
    for number, handler in before.items():
        signal.signal(number, signal.SIG_DFL if handler is None else handler)
    assert after == wanted


def test_what_comes_while_held_waits():
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Terminated) as caught:
            interrupts.release()
        assert caught.value.number == signal.SIGTERM


def test_released_they_raise_at_once_and_then_never_again():
    with Interrupts() as interrupts:
        interrupts.release()
        with pytest.raises(KeyboardInterrupt) as caught:
            signal.raise_signal(signal.SIGINT)
        assert not isinstance(caught.value, Terminated)
        # Whoever presses the keys twice while all is tidied up.
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Terminated):
            interrupts.release()


def test_what_still_waits_in_the_end_is_not_lost():
    done = []

    def interrupted():
        with Interrupts():
            signal.raise_signal(signal.SIGINT)
            done.append("all the same")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done


def test_an_error_goes_before_what_waits():
    def failing():
        with Interrupts():
            signal.raise_signal(signal.SIGINT)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            interrupts.release()
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_command_says_how_it_ended(tmp_path):
    with Interrupts() as interrupts:

        def run(command, tail=100):
            return interrupts.run(command, folder=tmp_path, environment=os.environ, tail=tail)

        assert run("echo out; echo err >&2; exit 3") == (3, "out\nerr\n")
        assert run([sys.executable, "-c", "print('x' * 300)"]) == (0, "x" * 99 + "\n")
        assert run("kill -9 $$")[0] == -9
        with pytest.raises(FileNotFoundError):
            run(["no-such-program-at-all"])
        # It is still held: what comes now waits.
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Terminated):
            interrupts.release()
