"""What README.md, the folders' guides and the scripts' own help tell one to type exists, and takes the options shown.
The program's commands are run by tests/tools/examples_test.py."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import texts

ROOT = Path(os.environ["PERILUNE_SOURCE_DIR"])
BUILD = Path(os.environ["PERILUNE_BUILD_DIR"])

SCRIPTS = sorted(
    path
    for path in (ROOT / "tools").iterdir()
    if path.is_file() and os.access(path, os.X_OK) and path.name != "perilune"
)


def output(*command):
    done = subprocess.run(
        [str(word) for word in command], cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    return done.returncode, done.stdout + done.stderr


def script_help(script):
    code, text = output(*([sys.executable, ROOT / script] if script.endswith(".py") else [ROOT / script]), "--help")
    assert code == 0, text
    return text


def value_of(option, words):
    """What follows an option, or None."""
    return words[words.index(option) + 1] if option in words else None


def check_selection(words):
    """Of tests by label (-L) and by name (-R)."""
    labels = re.search(r"Labels: (.*)\.", (ROOT / "tests" / "CMakeLists.txt").read_text())[1].split()
    label, name = value_of("-L", words), value_of("-R", words)
    if label not in [*labels, None]:
        return f"no label {label}"
    is_built = (BUILD / "kernels_tests").exists()  # or ctest knows no test of it
    if name and is_built and "Total Tests: 0" in output("ctest", "--test-dir", BUILD, "-N", "-R", name)[1]:
        return f"no test {name}"
    return None


def check_test_program(program, words):
    selected = output(program, *[word for word in words[1:] if "filter" in word], "--gtest_list_tests")[1]
    if not re.search(r"^  \w", selected, flags=re.M):
        return f"no such test: {words}"
    known = output(program, "--help")[1]
    unknown = [option for option in texts.options(words) if f"{option}=" not in known and f"{option}\n" not in known]
    return f"no {unknown}" if unknown else None


def check(words):
    """Nothing, or what is wrong with a command."""
    name, wanted = words[0], texts.options(words)
    if texts.PROGRAM.fullmatch(name) or name == "git":
        return None  # tests/tools/examples_test.py runs the program's
    if name == "gdb":
        return check(words[words.index("--args") + 1 :])
    if name in ("cmake", "ctest"):
        presets = json.loads((ROOT / "CMakePresets.json").read_text())
        known = {preset["name"] for preset in presets["testPresets" if name == "ctest" else "configurePresets"]}
        chosen = value_of("--preset", words)
        if folder := value_of("--build", words) or value_of("--test-dir", words):
            chosen = folder.removeprefix("build/")
        if chosen not in known | {None}:
            return f"no preset {chosen}"
        if name == "ctest":
            return check_selection(words)
        declared = (ROOT / "tools" / "cmake" / "options.cmake").read_text()
        unknown = [option for option in wanted if option.startswith("-DPERILUNE") and option[2:] + " " not in declared]
        return f"options.cmake lacks {unknown}" if unknown else None
    if name == "pip":
        paths = [word for word in words[2:] if word.startswith(("./", "build/"))]
        missing = [path for path in paths if not path.startswith("build/") and not (ROOT / path).exists()]
        return f"no {missing}" if missing else None
    if name in ("python", "python3") and words[1] == "-m":
        module = ROOT / "tools" / "python" / words[2] / "__main__.py"
        return None if words[2] == "venv" or module.exists() else f"no {module}"
    if name == ".":  # the environment that the line before makes
        return None
    if name == "build/venv/bin/python":
        words = words[1:]
        name, wanted = words[0], texts.options(words)
    if name.startswith(("build/", "bench_")):
        program = BUILD / Path(name).name
        if not program.exists():  # benchmarks are no part of a build with sanitizers, and some tests need a toolkit
            return None
        if name.endswith("_tests"):
            return check_test_program(program, words)
        text = output(program, "--no-such-option")[1]
    elif name == ".ci/run" or (name.startswith("tests/") and not name.endswith(".py")):
        return None if os.access(ROOT / name, os.X_OK) else f"no {name}"
    elif not (ROOT / name).is_file():
        return f"no {name}"
    elif name == "tools/test":
        return check_selection(words) if set(wanted) <= {"--sanitize", "-L", "-R"} else "tools/test: which option?"
    elif name.startswith("tests/"):  # which need the package installed to show their help
        text = (ROOT / name).read_text()
    else:
        text = script_help(name)
    missing = [option for option in wanted if not re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text)]
    return f"{name} has no {missing}" if missing else None


def test_pages_have_commands():
    assert "tools/perilune train cartpole" in texts.command_lines(ROOT / "README.md")[0]
    without = [page for page in texts.PAGES if not texts.command_lines(page)]
    assert len(texts.PAGES) > 7 and not [page for page in without if page.parent.name != "host"]


@pytest.mark.parametrize("line", texts.pages())
def test_commands_of_pages(line):
    for words in texts.commands(line):
        assert check(words) is None, f"{line}: {check(words)}"


@pytest.mark.parametrize(
    "script",
    sorted(
        path.relative_to(ROOT).as_posix()
        for folder in ("bench", "tests/gymnasium")
        for path in (ROOT / folder).glob("*.py")
        if os.access(path, os.X_OK)
    ),
)
def test_script_usage(script):
    """Of scripts that may need more than Python to start: the options of their usage are in their code."""
    text = (ROOT / script).read_text()
    usage = re.match(r'#![^\n]*\n"""(.*?)"""', text, flags=re.S)[1]
    assert f"{script}" in usage, "its usage shows no command line"
    unknown = [
        option for option in re.findall(r"(?<![\w`-])--[a-z-]+", usage) if f'"{option}"' not in text.replace(usage, "")
    ]
    assert not unknown


@pytest.mark.parametrize("script", [f"tools/{path.name}" for path in SCRIPTS])
def test_script_help(script):
    lines = texts.help_text(script_help(script))
    assert any(line.startswith(script) for line in lines), "its help shows no command line"
    for line in lines:
        for words in texts.commands(re.sub(r"[][]", " ", line)):  # in brackets: what may be left out
            assert check(words) is None, f"{line}: {check(words)}"


@pytest.mark.parametrize("program", ["bench_kernels", "bench_throughput"])
def test_benchmarks_refuse_devices_that_there_are_not(program):
    if not (BUILD / program).exists():
        pytest.skip("this build has no benchmarks")
    code, text = output(BUILD / program, "--device", "cdua")
    assert code == 2 and "--device 'cdua' is unknown - allowed: auto, cpu, cuda" in text, text


def test_benchmarks_say_how_to_get_the_package_that_is_missing(tmp_path):
    code = f"import harness; harness.require_package({str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT / "bench", capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("perilune is missing: tools/test -R python.install"), done
