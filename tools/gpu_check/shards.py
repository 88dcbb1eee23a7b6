"""Runs a GoogleTest program in several processes at once, and knows of each test how it ended.

A kernel that traps takes its process's CUDA context with it, so that every later test of that process fails too. Of a
process therefore only what happened up to its first failure counts: the tests after it, and those that a process which
died did not come to, are run again in fresh processes.
"""

import os
from concurrent.futures import ThreadPoolExecutor

from gpu_check.machine import Failed

RUN, OK, FAILED, SKIPPED = "[ RUN      ] ", "[       OK ] ", "[  FAILED  ] ", "[  SKIPPED ] "


def test_names(listing):
    """Of --gtest_list_tests: suites end with a dot, their tests are indented, and values follow after a hash."""
    names, suite = [], ""
    for line in listing.splitlines():
        word = line.split("#")[0].strip()
        if not line.startswith("  "):
            suite = word if word.endswith(".") else ""
        elif suite and word:
            names.append(suite + word)
    return names


def first_line(lines):
    """Where a test failed, and the first that it said of it."""
    for i, line in enumerate(lines):
        if ": Failure" in line:
            place = line.split(": Failure")[0].rsplit("/", 1)[-1]
            return " ".join([place + ":", *(text.strip() for text in lines[i + 1 : i + 3] if text.strip())])[:300]
    return next((line.strip()[:300] for line in lines if line.strip()), "it failed and said nothing")


def read_log(text):
    """[(name, "passed", "failed", "skipped" or "running", the lines that it printed)] in their order."""
    ended, name, lines = [], None, []
    for line in text.splitlines():
        if line.startswith(RUN):
            name, lines = line[len(RUN) :].strip(), []
            continue
        status = next(
            (
                word
                for mark, word in ((OK, "passed"), (FAILED, "failed"), (SKIPPED, "skipped"))
                if name and line.startswith(mark) and line[len(mark) :].split(" (")[0].split(",")[0] == name
            ),
            None,
        )
        if status:
            ended.append((name, status, lines))
            name = None
        elif name:
            lines.append(line)
    return ended + ([(name, "running", lines)] if name else [])


class Shards:
    def __init__(self, machine, program, environment):
        self.machine, self.program, self.environment = machine, program, environment
        self.passed, self.skipped, self.failed, self.processes = [], [], {}, 0

    def run(self, names):
        """Until every test has ended or the stage's time is over; returns the tests that have not run."""
        waiting, cores = list(names), len(os.sched_getaffinity(0))
        with ThreadPoolExecutor(cores) as pool:
            while waiting and self.machine.left > 1.0:
                shards = [shard for i in range(cores) if (shard := waiting[i::cores])]
                waiting = [name for again in pool.map(self.run_one, shards) for name in again]
        return waiting

    def run_one(self, names):
        """Settles what a process settles; returns the tests that must run again."""
        self.processes += 1
        done = self.machine.attempt(
            self.program,
            "--gtest_color=no",
            f"--gtest_filter={':'.join(names)}",
            environment=self.environment,
            quiet=self.machine.sizes.quiet,
        )
        log, settled = read_log(done.out), set()
        for name, status, lines in log:
            settled.add(name)
            if status == "passed":
                self.passed.append(name)
            elif status == "skipped":
                self.skipped.append(name)
            else:
                self.failed[name] = first_line(lines) if status == "failed" else f"{done.problem} in this test"
                break
        else:
            if done.problem and (settled or self.machine.left > 1.0):
                # It died between tests or after the last one; where it did not even start, none of its tests can run.
                for name in [log[-1][0]] if log else names:
                    self.failed[name] = f"after this test: {done.problem}" if log else done.problem
                    settled.add(name)
                    if name in self.passed:
                        self.passed.remove(name)
        if not settled and not done.problem:
            raise Failed(f"{self.program.name} ran none of {', '.join(names[:3])}", done.out)
        return [name for name in names if name not in settled]
