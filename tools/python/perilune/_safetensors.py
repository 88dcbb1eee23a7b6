"""Reads safetensors files: the length of a header (8 bytes), the header (JSON), and the numbers of the tensors."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np


def metadata_of(path: Path) -> dict[str, str]:
    """What the file says beside its tensors."""
    with path.open("rb") as file:
        return _header(file).get("__metadata__", {})


def tensors_of(data: bytes) -> dict[str, np.ndarray]:
    """The tensors, float32, of a file's bytes, by name."""
    file = io.BytesIO(data)
    header = _header(file)
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in sorted(header.items()):
        begin, end = (file.tell() + offset for offset in entry["data_offsets"])
        tensors[name] = np.frombuffer(data[begin:end], "<f4").reshape(entry["shape"])
    return tensors


def _header(file: BinaryIO) -> dict[str, Any]:
    """Leaves the file where the tensors begin."""
    return json.loads(file.read(int.from_bytes(file.read(8), "little")))
