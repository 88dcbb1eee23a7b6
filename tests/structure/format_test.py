"""Every source file is as tools/format leaves it, and tools/format finds what is not."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(os.environ["PERILUNE_SOURCE_DIR"])


def tools_format(tree, *arguments):
    return subprocess.run([tree / "tools" / "format", *arguments], capture_output=True, text=True)


def test_sources_are_formatted():
    done = tools_format(ROOT, "--check")
    assert done.returncode == 0, f"\n{done.stdout}{done.stderr}"


@pytest.fixture
def tree(tmp_path):
    """A tree with the formatter and its settings alone."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "build").mkdir()
    for name in ("tools/format", ".clang-format", ".ruff.toml", "CMakeLists.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "build" / "venv").symlink_to(ROOT / "build" / "venv")
    assert tools_format(tmp_path, "--check").returncode == 0
    return tmp_path


FORMATTED = {
    "tools/a.cpp": "int  a ;\n",
    "tools/b.cpp": "int  b ;\n",
    "tools/c.py": "c = 'c'\n",
    "tools/d": "#!/usr/bin/env python3\nimport sys\n\nd = ( 1, )\n",
}
BY_HAND = {
    "tools/e": "#!/usr/bin/env bash\necho $1\n",
    "tools/f.bash": "f=" + 120 * "f" + "\n",
    "tools/g.cmake": "# " + 120 * "g" + "\n",
    "tools/h.hpp": "// " + 120 * "h" + "\n",
    "tools/i.py": "# " + " ".join(60 * ["iii"]) + "\n",
    "tools/j.py": "try:\n    pass\nexcept:\n    pass\n",
}


def write(path, text):
    path.write_text(text)
    path.chmod(0o755 if text.startswith("#!") else 0o644)


@pytest.mark.parametrize("name", [*FORMATTED, *BY_HAND])
def test_one_file_that_is_wrong(tree, name):
    write(tree / name, (FORMATTED | BY_HAND)[name])
    done = tools_format(tree, "--check")
    assert done.returncode == 1 and f"{name}:" in done.stdout and "type tools/format" in done.stderr, done
    done = tools_format(tree)
    assert done.returncode == (0 if name in FORMATTED else 1), done
    assert (f"{name}:" in done.stdout) == (name in BY_HAND), done


def test_all_files_that_are_wrong_are_named_and_mended(tree):
    for name, text in (FORMATTED | BY_HAND).items():
        write(tree / name, text)
    done = tools_format(tree, "--check")
    assert all(f"{name}:" in done.stdout for name in FORMATTED | BY_HAND), done.stdout
    left = tools_format(tree).stdout
    assert all((f"{name}:" in left) == (name in BY_HAND) for name in FORMATTED | BY_HAND), left
    assert (tree / "tools/a.cpp").read_text() == "int a;\n"
    assert (tree / "tools/c.py").read_text() == 'c = "c"\n'


def test_missing_programs(tree):
    (tree / "build" / "venv").unlink()
    for arguments in ([], ["--check"]):
        done = tools_format(tree, *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert (
            done.stderr == "tools/format: build/venv has no clang-format, ruff, shellcheck - type tools/setup --tests\n"
        )
