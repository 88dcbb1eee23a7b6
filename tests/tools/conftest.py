"""What the tests of the program share: running it as a user does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = os.environ["PERILUNE_PROGRAM"]
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import short_run  # noqa: E402

SANITIZED = bool(os.environ.get("PERILUNE_SANITIZE"))


class Perilune:
    """Runs the program in an empty directory."""

    def __init__(self, directory):
        self.directory = directory

    def command(self, *arguments):
        return [PROGRAM, *map(str, arguments)]

    def environment(self, **changes):
        """The environment without what changes the program's output; a change of None removes a variable."""
        clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "PERILUNE_CPU_LEVEL")}
        clean.update(TERM="xterm", LC_ALL="C.UTF-8")
        return {k: v for k, v in {**clean, **changes}.items() if v is not None}

    def run(self, *arguments, env=None, **kwargs):
        return subprocess.run(
            self.command(*arguments),
            cwd=self.directory,
            capture_output=True,
            text=True,
            env=self.environment(**(env or {})),
            timeout=600 if SANITIZED else 120,
            **kwargs,
        )

    def good(self, *arguments, **kwargs):
        """Runs it and expects success; returns the completed process."""
        done = self.run(*arguments, **kwargs)
        assert done.returncode == 0, f"{arguments}: exit {done.returncode}\n{done.stderr}{done.stdout}"
        return done

    def json(self, *arguments, **kwargs):
        """The one object on standard output of a command that succeeds."""
        return json.loads(self.good(*arguments, "--json", **kwargs).stdout)

    def fails(self, exit_code, *words, arguments, **kwargs):
        """Runs it and expects this exit code, no standard output, and one line on standard error with all words."""
        done = self.run(*arguments, **kwargs)
        assert done.returncode == exit_code, f"{arguments}: exit {done.returncode}\n{done.stderr}{done.stdout}"
        assert done.stdout == ""
        line = done.stderr
        assert line.startswith("perilune: ") and line.endswith("\n"), line
        missing = [word for word in map(str, words) if word not in line]
        assert not missing, f"{missing} not in: {line}"
        return line


@pytest.fixture
def perilune(tmp_path):
    return Perilune(tmp_path)


# What makes a run short, as options.
SHORT = ["--device", "cpu", "--threads", "1"]
for name, value in short_run.SETTINGS.items():
    SHORT += ["--set", f"{name}={'none' if value is None else value}"]


@pytest.fixture
def short():
    """Options of train that make a run short; later --set change them."""
    return list(SHORT)
