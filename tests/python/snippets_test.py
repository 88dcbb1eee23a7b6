"""README.md's Python is run as it stands there."""

import re

import numpy as np

from common import SOURCE


def test_readme(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", (SOURCE / "README.md").read_text(), flags=re.S | re.M)
    assert len(blocks) == 1
    names = {}
    exec(blocks[0], names)
    assert names["observations"].shape == (4096, 4) and names["actions"].shape == (4096,)
    assert names["run"].evaluation.mean >= 475 and len(names["run"].curves["episodic_return"]) > 0
    assert set(np.load(tmp_path / "policy.npz").files) and (tmp_path / names["run"].run_dir).is_dir()
