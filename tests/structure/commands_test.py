"""What README.md and the scripts' own help tell one to type exists, and takes the options shown. The program's commands
are run by tests/tools/examples_test.py."""

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


def check(words):
    """Nothing, or what is wrong with a command."""
    name, wanted = words[0], texts.options(words)
    if name in ("tools/perilune", "perilune"):
        return None  # tests/tools/examples_test.py
    if name in ("cmake", "ctest"):
        presets = json.loads((ROOT / "CMakePresets.json").read_text())
        known = {preset["name"] for preset in presets["testPresets" if name == "ctest" else "configurePresets"]}
        chosen = words[words.index("--preset") + 1] if "--preset" in words else None
        if chosen not in known | {None}:
            return f"no preset {chosen}"
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
        if not program.exists():  # benchmarks are no part of a build with sanitizers
            return None
        text = output(program, "--no-such-option")[1]
    elif name == ".ci/run" or (name.startswith("tests/") and not name.endswith(".py")):
        return None if os.access(ROOT / name, os.X_OK) else f"no {name}"
    elif not (ROOT / name).is_file():
        return f"no {name}"
    elif name == "tools/test":
        return None if set(wanted) <= {"--sanitize", "-L", "-R"} else "tools/test: which option?"
    elif name.startswith("tests/"):  # which need the package installed to show their help
        text = (ROOT / name).read_text()
    else:
        text = script_help(name)
    missing = [option for option in wanted if not re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text)]
    return f"{name} has no {missing}" if missing else None


def test_readme_has_commands():
    lines = texts.readme()
    assert "tools/perilune train cartpole" in lines[0] and len(lines) > 20


@pytest.mark.parametrize("line", sorted(set(texts.readme())))
def test_readme_commands(line):
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
