"""What tests of the tree share: the modules of bench/, tools/ and tests/support, and a GPU that is none."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(os.environ["PERILUNE_SOURCE_DIR"])
sys.path[:0] = [str(ROOT / folder) for folder in ("bench", "tools", "tests/support")]


@pytest.fixture
def gpu(tmp_path):
    import fake_gpu  # other tests need none of what it does

    return fake_gpu.Gpu(tmp_path)
