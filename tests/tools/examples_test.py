"""The program's command lines in README.md and in its own help are run: with a short run's settings where they train, and
with a run that exists where they name one."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(os.environ["PERILUNE_SOURCE_DIR"])
sys.path.insert(0, str(ROOT / "tests" / "support"))
import texts  # noqa: E402

SUBCOMMANDS = ["", "train", "eval", "sweep", "profile", "list", "info"]


def run_example(perilune, short, words):
    run = perilune.directory / "trained"
    if not run.exists():
        perilune.good("train", "cartpole", *short, "--run-dir", run)
    (perilune.directory / "mine.toml").write_text("num_envs = 64\n")
    arguments = [str(run) + word.removeprefix("runs/")[3:] if word.removeprefix("runs/").split("/")[0] == "RUN" else word
                 for word in words]
    command = arguments[0] if arguments else "help"
    if command == "train" and "--resume" not in arguments:
        # What takes long, or a processor with bf16, has its settings resolved.
        quick = arguments[1:2] in ([], ["cartpole"]) and not any(word.startswith(("precision=", "hidden")) for word in arguments)
        arguments += [*short, "--run-dir", "run"] if quick else ["--print-config"]
    elif command == "sweep":
        arguments += short[4:]
    elif command == "profile" and "--predict" not in arguments:
        if "--iterations" not in arguments:
            arguments += ["--iterations", "0"]
        arguments[arguments.index("--iterations") + 1] = "1"
    perilune.good(*arguments)


def examples(lines):
    return sorted({" ".join(f"'{word}'" if "|" in word else word for word in words[1:]) for line in lines
                   for words in texts.commands(line) if words[0] in ("perilune", "tools/perilune")})


@pytest.mark.parametrize("line", examples(texts.readme()))
def test_readme(perilune, short, line):
    run_example(perilune, short, texts.commands(f"perilune {line}")[0][1:])


@pytest.mark.parametrize("subcommand", SUBCOMMANDS)
def test_help(perilune, short, subcommand):
    text = perilune.good(*subcommand.split(), "--help").stdout
    lines = examples(texts.help_text(text[text.index("Examples:"):]))
    assert lines
    for line in lines:
        run_example(perilune, short, texts.commands(f"perilune {line}")[0][1:])
