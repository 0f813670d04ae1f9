"""Stopping a process comes to an end, whatever state its object was left in."""

from __future__ import annotations

import subprocess
import sys
import threading

from ops import processes


def test_a_process_whose_lock_was_left_taken_is_stopped_and_not_waited_for_without_an_end(monkeypatch):
    """A signal whose handler raises inside ``poll()`` leaves the lock taken: the supervisor hung on it for good."""
    monkeypatch.setattr(processes, "REAP_SECONDS", 0.1)
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    process = subprocess.Popen(command, start_new_session=True, text=True)
    process._waitpid_lock.acquire()
    answer: list[bool] = []
    stopping = threading.Thread(target=lambda: answer.append(processes.stop(process, grace_seconds=0.1)), daemon=True)
    stopping.start()
    stopping.join(30)
    process._waitpid_lock.release()
    assert answer == [False]
    assert process.wait(30) < 0
