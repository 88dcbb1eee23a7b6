"""Runs programs: what hangs is ended with all its children, and how a program ended is said in a line."""

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path


class CannotRun(Exception):
    """A program that does not start."""


_lock = threading.Lock()
_live = set()
_stopped = threading.Event()


def stop_all():
    """Kills what runs, and lets nothing start any more: for an interruption, whose threads wait for their processes."""
    with _lock:
        _stopped.set()
        for process in _live:
            kill(process)


def kill(process):
    """With its children: each process that is started here leads a group of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@dataclass
class Done:
    """How a process ended; problem is empty where it succeeded."""

    status: int
    out: str
    err: str
    problem: str = ""


def how_it_ended(name, status, said):
    if status < 0:
        number = -status
        cause = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        return f"{name} was ended by {cause}"
    last = next((line for line in reversed(said.splitlines()) if line.strip()), "")
    return f"{name} ended with {status}" + (f": {last.strip()[:300]}" if last else "")


def run_process(words, until, *, quiet=None, environment=None, folder=None):
    """Runs a command, which is killed when time.monotonic() shows `until`, or when it has printed nothing for `quiet`
    seconds. The environment is this process's and what is given."""
    words = [str(word) for word in words]
    name = Path(words[0]).name
    # Files and no pipes: a pipe stays open, and reading it hangs, while any child of a killed process lives.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            with _lock:
                if _stopped.is_set():
                    raise CannotRun("interrupted")
                process = subprocess.Popen(
                    words,
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                    env={**os.environ, "NO_COLOR": "1", **(environment or {})},
                )
                _live.add(process)
        except OSError as error:
            raise CannotRun(f"cannot run {words[0]}: {error.strerror}") from error
        problem, printed, since = "", 0, time.monotonic()
        while not problem:
            now = time.monotonic()
            size = os.fstat(out.fileno()).st_size
            if size != printed:
                printed, since = size, now
            if now >= until:
                problem = f"timed out in {name}"
            elif quiet is not None and now >= since + quiet:
                problem = f"{name} printed nothing for {quiet:g} s"
            else:
                try:
                    process.wait(min(until - now, 0.2))
                    break
                except subprocess.TimeoutExpired:
                    pass
        kill(process)  # what it left behind, too
        try:
            status = process.wait(5)
        except subprocess.TimeoutExpired:  # in the driver, where no signal arrives
            status = -signal.SIGKILL
        with _lock:
            _live.discard(process)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
        if not problem and status != 0:
            problem = how_it_ended(name, status, texts[1] or texts[0])
        return Done(status, *texts, problem)
