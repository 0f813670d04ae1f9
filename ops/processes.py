"""Child processes that never outlive the process that started them.

Invariants: every child leads a process group of its own, so Ctrl-C in the terminal reaches only the supervisor, which
decides the order of the stop; on Linux the kernel signals the child when its parent dies, kill -9 included. Children
must be spawned from the main thread, because the kernel watches the thread that forked.
"""

import contextlib
import ctypes
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAP_DAC_OVERRIDE = 1
CAPABILITY_VERSION_3 = 0x20080522
UNPRIVILEGED_USER = "nobody"

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    output: int | IO[Any] | None = None,
    unprivileged: bool = False,
    death_signal: signal.Signals = signal.SIGTERM,
    keep_open: Sequence[int] = (),
) -> subprocess.Popen[str]:
    """Start `argv` in a process group of its own; stdout and stderr both go to `output`.

    `unprivileged` gives root's rights away first, for servers that refuse to run as root. Raises OSError when the
    program cannot be started. `keep_open` names the file descriptors that the child gets under the same number.
    """
    return subprocess.Popen(
        list(argv),
        env=None if env is None else dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output is not None else None,
        text=True,
        errors="replace",
        bufsize=1,
        pass_fds=tuple(keep_open),
        preexec_fn=_child_setup(os.getpid(), unprivileged and os.geteuid() == 0, death_signal),
    )


REAP_SECONDS = 5.0


def stop(process: subprocess.Popen[str], first: signal.Signals = signal.SIGTERM, grace_seconds: float = 10.0) -> bool:
    """Ask with `first`, wait, then kill whatever is left of the group. True when it went without being killed."""
    went = True
    if process.poll() is None:
        process.send_signal(first)
        try:
            process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            went = False
    sweep(process)
    # Not without an end: a handler of signals that raised inside poll() would have left the object's lock taken.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(REAP_SECONDS)
    return went


def sweep(process: subprocess.Popen[str]) -> None:
    """Kill what is left of the process group of `process`."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def unprivileged_ids() -> tuple[int, int] | None:
    """(uid, gid) that an unprivileged child gets, or None when we are not root ourselves."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam(UNPRIVILEGED_USER)
    return entry.pw_uid, entry.pw_gid


def _child_setup(parent: int, drop: bool, death_signal: signal.Signals) -> Callable[[], None]:
    ids = unprivileged_ids() if drop else None

    def setup() -> None:
        os.setpgid(0, 0)
        if ids is not None:
            _drop_privileges(*ids)
        if _libc is not None:
            # After the change of user, which would clear it.
            _libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

    return setup


def _drop_privileges(uid: int, gid: int) -> None:
    """Become `uid`, keeping only the right to walk through directories that belong to root.

    Without it a clone below a private home directory (/root is 0700) could not even be reached by the server.
    """
    if _libc is not None:
        _libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if _libc is not None:
        bit = 1 << CAP_DAC_OVERRIDE
        header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
        sets = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)
        if _libc.capset(header, sets) == 0:
            _libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)
