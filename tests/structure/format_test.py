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


def test_what_is_wrong_is_named_and_mended(tree):
    wrong = FORMATTED | BY_HAND
    for name, text in wrong.items():
        (tree / name).write_text(text)
        (tree / name).chmod(0o755 if text.startswith("#!") else 0o644)
    done = tools_format(tree, "--check")
    assert done.returncode == 1 and "type tools/format" in done.stderr
    assert all(f"{name}:" in done.stdout for name in wrong), done.stdout
    done = tools_format(tree)
    assert done.returncode == 1 and "by hand" in done.stderr
    assert all((f"{name}:" in done.stdout) == (name in BY_HAND) for name in wrong), done.stdout
    assert (tree / "tools/a.cpp").read_text() == "int a;\n" and (tree / "tools/c.py").read_text() == 'c = "c"\n'
    for name in BY_HAND:
        (tree / name).unlink()
    assert tools_format(tree, "--check").returncode == 0


def test_missing_programs(tree):
    (tree / "build" / "venv").unlink()
    for arguments in ([], ["--check"]):
        done = tools_format(tree, *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert (
            done.stderr == "tools/format: build/venv has no clang-format, ruff, shellcheck - type tools/setup --tests\n"
        )
