"""README.md: tables are what bench/results says, the forecast is what the program says. Of every page: files linked to
exist."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import texts

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted({*texts.PAGES, *ROOT.glob(".github/**/*.md")})


def test_tables_are_generated():
    done = subprocess.run(
        [sys.executable, ROOT / "bench" / "readme_tables.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_forecast_is_of_this_program():
    committed = json.loads((ROOT / "bench" / "results" / "h200-predicted" / "model.json").read_text())
    done = subprocess.run(
        [sys.executable, ROOT / "bench" / "predict.py", "h200", "--program", os.environ["PERILUNE_PROGRAM"]],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    for result in committed, told:
        result.pop("version")  # and with it the commit
    assert told == committed, (
        f"run {committed['command']} > bench/results/h200-predicted/model.json and bench/readme_tables.py"
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing
