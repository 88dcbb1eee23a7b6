"""tools/perilune, tools/setup and tools/test on machines that lack something: each says what and what to type, and the
same command succeeds once it is there. The machine is a PATH of stand-ins for what is looked for and links to tools."""

import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

ROOT = Path(os.environ["PERILUNE_SOURCE_DIR"])
SCRIPTS = ["perilune", "setup", "test", "build.bash"]

# Everything that the scripts (and the stand-ins: chmod, cp, sleep) call and every Debian has.
PLAIN_TOOLS = [
    "awk",
    "bash",
    "cat",
    "chmod",
    "cksum",
    "cp",
    "cut",
    "date",
    "df",
    "dirname",
    "du",
    "env",
    "find",
    "flock",
    "grep",
    "head",
    "mkdir",
    "mktemp",
    "mv",
    "nproc",
    "readlink",
    "rm",
    "sed",
    "sh",
    "sleep",
    "sort",
    "tail",
    "tee",
    "touch",
]

FAKES = {
    # Configures and builds a program that repeats its arguments.
    "cmake": """
        case $1 in
          --version) echo cmake version 3.25.1 ;;
          --preset | --fresh)
            [ ! -e fail-configure ] || { echo 'CMake Error: no such library' >&2; exit 1; }
            [ "$1" = --preset ] && name=$2 || name=$3
            mkdir -p build/$name
            {
              echo "CMAKE_HOME_DIRECTORY:INTERNAL=$PWD"
              echo CMAKE_PROJECT_VERSION:STATIC=0.1.0
              echo "CMAKE_CXX_COMPILER:FILEPATH=$(command -v ${CXX:-c++})"
            } > build/$name/CMakeCache.txt
            echo '-- Building: CPU level v4; no GPU kernels (no GPU was found); about 2 minutes on 2 cores' ;;
          --build)
            echo '[1/1 0.1s] Building program'
            [ ! -e slow ] || sleep 1
            [ ! -e fail-build ] || { cat fail-build; exit 1; }
            {
              echo '# ninja log v5'
              printf '0\\t12300\\t%s000000000\\tkernels/CMakeFiles/kernels.dir/lander.cpp.o\\t0\\n' $(date +%s%N)
            } > build/$3/.ninja_log
            printf '#!/bin/sh\\necho program "$@"\\n' > build/$3/perilune
            chmod +x build/$3/perilune ;;
        esac""",
    "ninja": "",
    "c++": "echo 12.2.0",
    # Everything is installed.
    "dpkg-query": """shift 3; for package; do echo "$package installed"; done""",
    "apt-get": "",
    "python3": """
        case "$*" in
          --version) echo Python 3.11 ;;
          "-m venv "*) mkdir -p $3/bin; cp "$0" $3/bin/python ;;
          *"pip install"*) [ ! -e no-network ] || { echo 'ERROR: Could not find a version'; exit 1; } ;;
        esac""",
    "ctest": """
        log=$2/.ctest.log
        { echo '1/2 Test  #1: kernels.Slow ...........   Passed   12.30 sec'
          echo '2/2 Test  #2: kernels.Quick ..........   Passed    0.30 sec'
          echo '100% tests passed, 0 tests failed out of 2'; } > $log
        cat $log""",
}

# Runs a command without root's rights.
AS_USER = [shutil.which("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []


class Machine:
    """A clone without history or build, and a PATH."""

    def __init__(self, folder):
        self.clone, self.bin = folder / "clone", folder / "bin"
        for part in ("sims", "kernels", "host", "tools", "tests"):
            (self.clone / part).mkdir(parents=True)
        self.bin.mkdir()
        shutil.copy(ROOT / "tests" / "requirements.txt", self.clone / "tests")
        (self.clone / "CMakeLists.txt").write_text("project(perilune VERSION 0.1.0 LANGUAGES CXX)\n")
        (self.clone / "CMakePresets.json").write_text("{}\n")
        for name in SCRIPTS:
            text = (ROOT / "tools" / name).read_text()
            # This machine's own devices, toolkit and Python are not what is looked at.
            for path in ("/dev/nvidia", "/dev/dxg", "/proc/driver/nvidia", "/usr/local/cuda", "/usr/bin/python3"):
                text = text.replace(path, str(self.bin / Path(path).name))
            (self.clone / "tools" / name).write_text(text)
            (self.clone / "tools" / name).chmod(0o755)
        for name in PLAIN_TOOLS:
            (self.bin / name).symlink_to(shutil.which(name))
        for name, script in FAKES.items():
            self.fake(name, script)

    def fake(self, name, script):
        """Puts a program there that notes that it was called."""
        (self.bin / name).write_text(
            f'#!/bin/sh\n[ ! -w {self.bin}/calls ] || echo "{name} $*" >> {self.bin}/calls\n{script}\n'
        )
        (self.bin / name).chmod(0o755)

    def calls(self):
        """What was called since this was asked last."""
        calls = (self.bin / "calls").read_text().splitlines() if (self.bin / "calls").exists() else []
        (self.bin / "calls").write_text("")
        return calls

    def start(self, tool, *arguments, prefix=(), **variables):
        return subprocess.Popen(
            [*prefix, self.clone / "tools" / tool, *arguments],
            cwd=self.clone,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={"PATH": str(self.bin), "HOME": "/", "LANG": "C.UTF-8", **variables},
        )

    def run(self, tool, *arguments, **keywords):
        process = self.start(tool, *arguments, **keywords)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(tool, process.returncode, out, err)

    def builds(self, **keywords):
        """The program runs, and its words alone are on standard output. Returns what was said beside them."""
        done = self.run("perilune", "info", "two words", **keywords)
        assert (done.returncode, done.stdout) == (0, "program info two words\n"), done.stderr
        return done.stderr

    def fails(self, *words, tool="perilune", status=1, **keywords):
        done = self.run(tool, **keywords)
        assert done.returncode == status and done.stdout == "", done.stdout + done.stderr
        missing = [word for word in words if word not in done.stderr]
        assert not missing, f"{missing} not said: {done.stderr}"


@pytest.fixture
def machine():
    with tempfile.TemporaryDirectory() as folder:  # not below pytest's, which only its owner may enter
        Path(folder).chmod(0o755)
        yield Machine(Path(folder))


def lacks(machine, *packages):
    machine.fake(
        "dpkg-query",
        "shift 3; for package; do case $package in "
        + "|".join(packages)
        + ") ;; *) echo $package installed ;; esac; done",
    )


def test_first_build_says_what_it_builds_and_the_next_start_nothing(machine):
    said = machine.builds().splitlines()
    assert "there is no program yet" in said[0]
    assert said[1] == "Building: CPU level v4; no GPU kernels (no GPU was found); about 2 minutes on 2 cores"
    assert said[2] == "[1/1 0.1s] Building program"
    machine.calls()
    for name in set(os.listdir(machine.bin)) - {"bash", "env", "find", "sh", "calls"}:
        (machine.bin / name).unlink()  # which no start of a built program may need
    assert machine.builds() == ""


def test_start_takes_milliseconds(machine):
    machine.builds()
    took = []
    for _ in range(10):
        started = time.monotonic()
        machine.builds()
        took.append(time.monotonic() - started)
    assert min(took) < 0.05


def test_works_through_a_link_and_from_elsewhere(machine, tmp_path):
    (tmp_path / "perilune").symlink_to(machine.clone / "tools" / "perilune")
    for command in ([tmp_path / "perilune"], ["../clone/tools/perilune"]):
        done = subprocess.run(command, cwd=machine.bin, env={"PATH": str(machine.bin)}, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, "program\n"), done.stderr


def test_edited_source(machine):
    machine.builds()
    (machine.clone / "host" / "trainer.cpp").touch()
    assert "host" in machine.builds().split(" has changed")[0]  # the file or its folder
    assert machine.builds() == ""


def test_other_processor(machine):
    machine.builds()
    stamp = machine.clone / "build" / "release" / ".built"
    kept = stamp.stat()
    stamp.write_text("flags : fpu\nnone\n")
    os.utime(stamp, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert "processor is another" in machine.builds()
    assert machine.builds() == ""


def test_gpu_appears_gets_a_toolkit_and_goes(machine):
    machine.builds()
    (machine.bin / "nvidia0").touch()
    assert "a GPU has appeared since the last build" in machine.builds()
    assert machine.builds() == ""
    machine.fake("nvcc", "")
    assert "the GPU or its toolkit has changed" in machine.builds()
    assert machine.builds() == ""
    (machine.bin / "nvidia0").unlink()
    assert machine.builds() == ""  # kernels for a GPU are in nobody's way


@pytest.mark.parametrize("packages", [["g++"], ["cmake"], ["ninja-build"]], ids=" ".join)
def test_missing_programs_are_installed(machine, packages):
    name = {"g++": "c++", "ninja-build": "ninja"}.get(packages[0], packages[0])
    away = machine.bin / "away"
    (machine.bin / name).rename(away)
    lacks(machine, *packages)
    machine.fails("not root and has no sudo", f"apt-get install {packages[0]}", prefix=AS_USER, tool="setup")
    if os.geteuid() == 0:
        machine.fake("apt-get", f'case "$*" in *install*) cp {away} {machine.bin / name} ;; esac')
        assert f"installing {packages[0]}\n" in machine.builds()


@pytest.mark.parametrize(
    "fake, answer, words",
    [
        ("c++", "echo 10.2.1", ["compiler is too old (c++ is version 10.2.1)", "GCC 12", "CXX=g++-12"]),
        (
            "c++",
            "[ $1 = --version ] && echo clang version 11.0.1 || echo 11.0.1",
            ["too old (c++ is version 11.0.1)", "clang 14"],
        ),
        ("c++", "exit 1", ["c++ does not run", "CXX"]),
        ("cmake", "echo cmake version 3.22.1", ["CMake is too old (3.22.1)", "3.25", "pip install --user cmake"]),
    ],
    ids=["gcc", "clang", "broken compiler", "cmake"],
)
def test_old_programs(machine, fake, answer, words):
    machine.fake(fake, answer)
    machine.fails(*words)
    machine.fake(fake, FAKES[fake])
    machine.builds()


def test_old_compiler_beside_a_new_one(machine):
    machine.fake("c++", "echo 11.4.0")
    machine.fake("g++-13", "echo 13.2.0")
    machine.fails("type CXX=g++-13 before the command")
    machine.builds(CXX="g++-13")
    assert machine.builds() == ""


def test_compiler_that_is_not_there(machine):
    machine.fails("there is no such compiler (CXX is g++-99)", CXX="g++-99")


def test_another_compiler_starts_afresh(machine):
    machine.builds()
    machine.fake("clang++", "[ $1 = --version ] && echo clang || echo 14.0.6")
    (machine.clone / "build" / "release" / ".built").unlink()
    assert "CXX is clang++: starting it afresh" in machine.builds(CXX="clang++")


@pytest.mark.skipif(os.geteuid() != 0, reason="packages are installed by root")
@pytest.mark.parametrize(
    "said, words",
    [
        ("Err:1 Temporary failure resolving 'mirror'", ["no network", "then run this again"]),
        ("E: You don't have enough free space in /var/cache/apt/archives/.", ["the disk is full"]),
        ("E: Unable to locate package libfmt-dev", ["this release lacks a package"]),
        ("E: Sub-process returned an error code", ["mend what apt-get names"]),
    ],
)
def test_packages_that_cannot_be_installed(machine, said, words):
    lacks(machine, "libfmt-dev")
    machine.fake("apt-get", f'echo "{said}"; exit 100')
    machine.fails("installing libfmt-dev", said, *words)
    machine.fake("apt-get", "")
    machine.builds()


@pytest.mark.skipif(os.geteuid() != 0, reason="packages are installed by root")
def test_interrupted_dpkg_is_finished(machine):
    lacks(machine, "libfmt-dev")
    machine.fake("apt-get", f"[ -e {machine.bin}/finished ] || {{ echo E: dpkg was interrupted; exit 100; }}")
    machine.fake("dpkg", f"[ \"$*\" = '--configure -a' ] && touch {machine.bin}/finished")
    machine.builds()


def test_distribution_without_apt(machine):
    for name in ("apt-get", "dpkg-query"):
        (machine.bin / name).unlink()
    assert "no apt-get here" in machine.builds()
    shutil.rmtree(machine.clone / "build")
    (machine.bin / "ninja").unlink()
    machine.fails("missing (ninja-build)", "libfmt-dev")


def test_no_room(machine):
    (machine.bin / "df").unlink()
    machine.fake("df", "echo Avail; echo 12")
    machine.fails("no room for the build (12 MB free", "make room")
    (machine.bin / "df").unlink()
    (machine.bin / "df").symlink_to(shutil.which("df"))
    machine.builds()


@pytest.mark.parametrize(
    "said, words",
    [
        (
            "fatal error: error writing to /tmp/cc.s: No space left on device",
            ["the disk is full", "goes on where it stopped"],
        ),
        (
            "c++: fatal error: Killed signal terminated program cc1plus",
            ["lack of memory", "CMAKE_BUILD_PARALLEL_LEVEL=1"],
        ),
        ("error: expected ';'", ["the message is above", "rm -r build/release"]),
    ],
)
def test_failed_build(machine, said, words):
    (machine.clone / "fail-build").write_text(said + "\n")
    machine.fails("building failed", said, *words)
    (machine.clone / "fail-build").unlink()
    machine.builds()


def test_failed_configuration(machine):
    (machine.clone / "fail-configure").touch()
    machine.fails("CMake Error: no such library", "configuring failed", "run this again")
    (machine.clone / "fail-configure").unlink()
    machine.builds()


def test_settings_that_do_not_work_any_more_are_dropped(machine):
    """A folder that the tests configured, on a machine that has their libraries no longer."""
    machine.builds()
    (machine.clone / "host" / "trainer.cpp").touch()
    machine.fake("cmake", "[ $1 != --preset ] || exit 1\n" + FAKES["cmake"])
    assert "could not be configured as it was" in machine.builds()


def test_moved_clone(machine):
    machine.builds()
    (machine.clone / "build" / "release" / "old").touch()
    machine.clone = machine.clone.rename(machine.clone.with_name("elsewhere"))
    shutil.copytree(machine.clone, machine.clone.with_name("copy"))
    for folder in ("elsewhere", "copy"):
        machine.clone = machine.clone.with_name(folder)
        (machine.clone / "host" / "trainer.cpp").touch()
        assert "/clone: starting it afresh" in machine.builds()
        assert not (machine.clone / "build" / "release" / "old").exists()
        assert machine.builds() == ""


def test_other_version(machine):
    machine.builds()
    (machine.clone / "CMakeLists.txt").write_text("project(perilune VERSION 0.9.0 LANGUAGES CXX)\n")
    assert "was made by version 0.1.0, and this is 0.9.0: starting it afresh" in machine.builds()


def test_two_builds_at_once(machine):
    (machine.clone / "slow").touch()
    machine.calls()
    both = [machine.start("perilune", "list") for _ in range(2)]
    said = [process.communicate(timeout=60) for process in both]
    assert [out for out, _ in said] == ["program list\n"] * 2
    assert sum("another build is at work" in err for _, err in said) == 1
    assert len([call for call in machine.calls() if call.startswith("cmake --build")]) == 1


def test_progress_is_shown_while_it_builds(machine):
    (machine.clone / "slow").touch()
    with machine.start("perilune") as process:
        assert any("[1/1 0.1s]" in line for line in process.stderr)
        assert process.poll() is None
        process.communicate(timeout=60)


def test_interrupted_build(machine):
    (machine.clone / "slow").touch()
    process = machine.start("perilune")
    while not (machine.clone / "build" / "release" / "CMakeCache.txt").exists():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "the same command goes on" in err and "failed" not in err
    (machine.clone / "slow").unlink()
    machine.builds()


def test_read_only_tree(machine):
    if os.geteuid() != 0:
        machine.clone.chmod(stat.S_IRUSR | stat.S_IXUSR)
    machine.fails(f"cannot write into {machine.clone}/build", "copy", prefix=AS_USER)
    machine.clone.chmod(0o755)
    machine.builds()
    assert machine.builds(prefix=AS_USER) == ""  # whoever may read a built clone may run it


def test_tests_are_configured_with_everything(machine):
    machine.calls()
    done = machine.run("test")
    assert done.returncode == 0, done.stderr
    configured = next(call for call in machine.calls() if call.startswith("cmake --preset"))
    assert configured == (
        "cmake --preset release -DPERILUNE_TESTS=ON -DPERILUNE_PYTHON=ON -DPERILUNE_CPU_LEVELS=all -DPERILUNE_CUDA=OFF"
    )
    assert "12.3 s  kernels/kernels/lander.cpp" in done.stdout and "12.3 s  kernels.Slow" in done.stdout
    assert done.stdout.splitlines()[-1] == "100% tests passed, 0 tests failed out of 2"
    assert machine.builds() == ""  # the program of that build serves

    machine.fake("nvcc", "")
    assert machine.run("test", CI="true").returncode == 0
    configured = next(call for call in machine.calls() if call.startswith("cmake --preset"))
    assert "-DPERILUNE_CUDA=ON" in configured and "-DCMAKE_COMPILE_WARNING_AS_ERROR=ON" in configured
    assert machine.run("test", "--sanitize").returncode == 0
    configured = next(call for call in machine.calls() if call.startswith("cmake --preset"))
    assert configured == "cmake --preset asan -DPERILUNE_TESTS=ON -DPERILUNE_PYTHON=ON"


def test_python_packages_need_the_network(machine):
    (machine.clone / "no-network").touch()
    done = machine.run("setup", "--tests")
    assert done.returncode == 1 and "pip could not install" in done.stderr and "network" in done.stderr
    (machine.clone / "no-network").unlink()
    assert machine.run("setup", "--tests").returncode == 0
    assert "nothing is missing" in machine.run("setup", "--check", "--tests").stderr
