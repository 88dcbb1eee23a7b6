"""What the scripts of this folder share: their options, asking the program, and what they say of where they ran."""

import argparse
import importlib
import json
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RELEASE = ROOT / "build" / "release"

# Options that several scripts have.
OPTIONS = {
    "--device": {"default": "auto"},
    "--package": {"type": Path, "default": RELEASE / "python"},
    "--program": {"type": Path, "default": RELEASE / "perilune"},
    "--set": {"action": "append", "default": [], "metavar": "KEY=VALUE"},
}


def parser_of(usage, *options):
    """A parser that shows the usage, a script's docstring, and knows these of the OPTIONS."""
    parser = argparse.ArgumentParser(description=usage, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in options:
        parser.add_argument(option, **OPTIONS[option])
    return parser


def set_words(pairs):
    """KEY=VALUE pairs as the program's options."""
    return [word for pair in pairs for word in ("--set", pair)]


def ask(program, *words, name=None):
    """The JSON that the program prints. Where it fails, the script ends and says so of `name`, or of the subcommand."""
    done = subprocess.run([program, *map(str, words), "--json"], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{name or f'perilune {words[0]}'} failed with {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def require(name, how):
    """Imports a module; where it is missing the script ends and says how to get it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        sys.exit(f"{name} is missing: {how}")


def require_package(folder):
    """Imports perilune from this folder, --package."""
    sys.path.insert(0, str(folder))
    return require(
        "perilune", f"tools/test -R python.install puts it into {RELEASE / 'python'}, --package names another"
    )


def processor():
    """The CPU's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def command_line():
    """How the script was called."""
    return " ".join([f"bench/{Path(sys.argv[0]).name}", *sys.argv[1:]])
