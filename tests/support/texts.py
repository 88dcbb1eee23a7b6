"""The command lines that README.md, the folders' guides and help texts tell one to type."""

import os
import re
import shlex
from pathlib import Path

ROOT = Path(os.environ["PERILUNE_SOURCE_DIR"])

# README.md, the guide of each folder, and what tells how to contribute.
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("*/README.md")), ROOT / ".github" / "CONTRIBUTING.md"]

# What a command line starts with, for those that stand between words.
STARTS = r"(?:tools|build|bench|tests)/\S|perilune |cmake |ctest |git |pip |apt-get |\.ci/|[A-Z_]+=\S+ "

# What runs the program: installed, from the clone, or from a build folder.
PROGRAM = re.compile(r"((tools|build/\w+)/)?perilune")


def command_lines(page):
    """Of a page's blocks without a language, and of `code` in sentences and tables that looks like a command line."""
    pieces = re.split(r"^```(.*)\n", page.read_text(), flags=re.M)  # prose, language, block, "", prose, ...
    lines = [
        line
        for language, block in zip(pieces[1::4], pieces[2::4], strict=True)
        if not language
        for line in block.splitlines()
        if line.strip()
    ]
    spans = re.findall(r"`([^`\n]+)`", "\n".join(pieces[::4]))
    return lines + [span for span in spans if re.match(STARTS, span) and " " in span]


def pages():
    """The command lines of all pages, each once."""
    return sorted({line for page in PAGES for line in command_lines(page)})


def help_text(text):
    """Of the lines that an `Examples:` or a usage comment indents, without the explanations beside them."""
    lines = re.findall(r"^ {2,}((?:perilune|tools/)\S* ?.*)$", text, flags=re.M)
    return [re.split(r" {2,}", line)[0] for line in lines]


def commands(line):
    """The simple commands of a line, each as its words: without comment, redirection and variables before it."""
    result = [[]]
    tokens = shlex.shlex(line.replace(" ...", ""), posix=True, punctuation_chars=True)
    tokens.whitespace_split = True
    for token in tokens:
        if token in ("&&", ";", "|", ">"):
            result.append([])
        elif result[-1] or not re.fullmatch(r"[A-Z_]+=.*", token):
            result[-1].append(token)
    return [words for words in result if words and not words[0].endswith((".toml", ".json"))]


def options(words):
    return [word.split("=")[0] for word in words[1:] if word.startswith("-")]
