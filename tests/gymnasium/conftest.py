"""Where these tests find what they import: this folder's modules, and the package of the build directory."""

import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), os.environ.get("PERILUNE_BUILD_DIR", ".") + "/python"]
