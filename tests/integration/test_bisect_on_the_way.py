"""`dtype-sampler bisect` while it goes on: what is seen, and what an interrupt leaves behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress

import pytest
from clones import KEY, culprit, pass_then_fail, turns, works

# A module whose import tells that a replay goes on, and waits until somebody lets it.
WAITING = """
import os, socket
with socket.create_connection(("127.0.0.1", int(os.environ["WAIT_AT"]))) as other:
    other.recv(1)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a terminal of POSIX")
def test_a_terminal_has_one_line_of_progress(made, bisect, monkeypatch):
    clone = made(*turns())
    pass_then_fail(clone)
    monkeypatch.setenv("COLUMNS", "100")
    master, slave = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "dtype_sampler", "bisect", KEY],
        stdout=subprocess.PIPE,
        stderr=slave,
        text=True,
    ) as process:
        os.close(slave)
        shown = b""
        # The other end is closed when the process is gone, which Linux says by an error.
        with suppress(OSError):
            while part := os.read(master, 4096):
                shown += part
        out, _ = process.communicate()
    os.close(master)
    assert process.returncode == 0
    assert culprit(out) == clone.commits[1]
    assert b"\n" not in shown
    assert shown.startswith(b"\rbisecting 0/1 [")
    assert clone.commits[1][:7].encode() in shown
    # It is gone afterwards.
    assert shown.split(b"\r")[-2].isspace()


def _when_it_ends(process, address):
    # Nobody is to wait for a replay that never comes.
    process.wait()
    with suppress(OSError):
        socket.create_connection(address).close()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("number", "code", "group"),
    [
        (signal.SIGINT, 130, False),
        # As a terminal does it.
        (signal.SIGINT, 130, True),
        (signal.SIGTERM, 143, False),
        (signal.SIGHUP, 129, False),
    ],
)
def test_an_interrupt_leaves_nothing_behind(made, bisect, monkeypatch, number, code, group):
    clone = made(
        turns(first={"conftest.py": WAITING})[0],
        *({f"{n}.txt": ""} for n in range(4)),
        {"layers.py": works("bf16")},
    )
    pass_then_fail(clone)
    before = clone.state()
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("WAIT_AT", str(server.getsockname()[1]))
        with subprocess.Popen(
            [sys.executable, "-m", "dtype_sampler", "bisect", KEY],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # Under `nohup`, or in the background of a shell, these tests are told to ignore some.
            preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
        ) as process:
            ended = threading.Thread(target=_when_it_ends, args=(process, server.getsockname()))
            ended.start()
            # Both ends, and then in the midst of git's own bisection.
            for _ in range(2):
                with server.accept()[0] as replay:
                    replay.send(b"x")
            replay, _ = server.accept()
            assert "refs/bisect" not in clone.git("for-each-ref")
            assert clone.git("worktree", "list").count("\n") == 2
            if group:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
            _, err = process.communicate()
            # The replay is gone as well: nobody holds the other end.
            with replay:
                assert replay.recv(1) == b""
            ended.join()
    assert process.returncode == code
    assert err.splitlines()[-1] in ("dtype-sampler: interrupted", "dtype-sampler: terminated")
    assert clone.state() == before
