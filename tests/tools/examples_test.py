"""The program's command lines in README.md, the folders' guides and its own help are run: with a short run's settings
where they train, and with a run that exists where they name one."""

import itertools
import os
from pathlib import Path

import pytest

import texts

ROOT = Path(os.environ["PERILUNE_SOURCE_DIR"])

SUBCOMMANDS = ["", "train", "eval", "export", "import", "sweep", "profile", "list", "info"]


def run_example(perilune, short, words):
    preset = words[1] if "--from" in words else "cartpole"  # only a policy for the same task can go on
    run = perilune.directory / f"trained-{preset}"
    if not run.exists():
        perilune.good("train", preset, *short, "--run-dir", run)
    (perilune.directory / "mine.toml").write_text("num_envs = 64\n")
    if words[:1] == ["import"]:  # what it names is there
        perilune.good("export", run, "--to", perilune.directory / "policy.pth")
        perilune.good("export", run, "--layout", "layers", "--to", perilune.directory)
    arguments = [
        str(run) + word.removeprefix("runs/")[3:] if word.removeprefix("runs/").split("/")[0] == "RUN" else word
        for word in words
    ]
    command = arguments[0] if arguments else "help"
    if command == "train" and "--resume" not in arguments and "--print-config" not in arguments:
        # The line's own settings once more at the end: what it shows is not shortened away, but its number of steps.
        own = [
            word
            for setting in settings_of(arguments)
            if not setting.startswith(("num_envs=", "total_timesteps="))
            for word in ("--set", setting)
        ]
        arguments += [*short, *own, "--run-dir", f"run{len(list(perilune.directory.iterdir()))}"]
    elif command == "sweep":
        arguments += short[4:]
    elif command == "profile" and "--predict" not in arguments:
        if "--iterations" not in arguments:
            arguments += ["--iterations", "0"]
        arguments[arguments.index("--iterations") + 1] = "1"
    if "precision=bf16" in arguments and "bf16" not in perilune.json("info")["instances"][0]["precisions"]:
        perilune.fails(2, "precision", "bf16", arguments=arguments)  # README says which processors have it
    else:
        perilune.good(*arguments)


def settings_of(arguments):
    return [value for option, value in itertools.pairwise(arguments) if option == "--set"]


def examples(lines):
    return sorted(
        {
            " ".join(f"'{word}'" if "|" in word else word for word in words[1:])
            for line in lines
            for words in texts.commands(line)
            if texts.PROGRAM.fullmatch(words[0])
        }
    )


@pytest.mark.parametrize("line", examples(texts.pages()))
def test_pages(perilune, short, line):
    run_example(perilune, short, texts.commands(f"perilune {line}")[0][1:])


@pytest.mark.parametrize("subcommand", SUBCOMMANDS)
def test_help(perilune, short, subcommand):
    text = perilune.good(*subcommand.split(), "--help").stdout
    lines = examples(texts.help_text(text[text.index("Examples:") :]))
    assert lines
    for line in lines:
        run_example(perilune, short, texts.commands(f"perilune {line}")[0][1:])
