"""The README's training loop runs unchanged, with a tracker's numbers and without other parts of `raflib`."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from raflib.bank import ExpressionBank

SHIPPED = "data/bank_open.npz"
README = Path(__file__).resolve().parents[1] / "README.md"

BEFORE = """
import sys
import numpy as np
import torch

torch.manual_seed(0)
expression = np.random.default_rng(0).uniform(size=(60, 52)).astype(np.float32)
pose, images = torch.randn(60, 6), torch.rand(60, 3, 8, 8)
network = torch.nn.Linear(58, 192)
shown = []

def avatar(expression, pose):
    shown.append(expression)
    return network(torch.cat([expression, pose], 1)).sigmoid().reshape(-1, 3, 8, 8)

optimizer = torch.optim.Adam(network.parameters(), 1e-2)
batches = [torch.randint(60, (8,)) for _ in range(150)]
start = network.weight.detach().clone()
"""
AFTER = """
shown = torch.cat(shown)
own = (shown[:, None] == torch.from_numpy(expression)).all(2).any(1)
others = (shown[:, None] == torch.from_numpy(bank.features)).all(2).any(1)
assert bool((own ^ others).all()), "every step shows an expression of the subject or a row of the bank"
assert abs(float(others.float().mean()) - 0.5) < 0.06, float(others.float().mean())
assert not bool((shown[others] == 7).all(1).any()), "rows of the subject in the bank are never shown"
assert not torch.equal(start, network.weight), "the loop trains"
heavy = {"numba", "matplotlib", "mediapipe", "pandas", "sklearn", "scipy", "skimage", "cv2", "plotly", "dask"}
rooms = sorted(name for name in sys.modules if name.startswith("raflib."))
print("heavy:", sorted(heavy & set(sys.modules)), "rooms:", rooms)
"""


def example() -> str:
    """The README's code block that binds RAF."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (block,) = [block for block in blocks if "RAF(" in block]
    return block


def test_the_readme_puts_raf_into_a_plain_loop_in_ten_lines(tmp_path):
    lines = [line for line in example().splitlines() if line.strip()]
    assert len(lines) <= 10
    draw = np.random.default_rng(1)
    features = draw.uniform(size=(200, 52)).astype(np.float32)
    features[:20] = 7  # 422's own rows: far from everything, and excluded by name
    subjects = ["422"] * 20 + [f"B{row % 9:03d}" for row in range(180)]
    ExpressionBank(features, subjects, ["S"] * 200, range(200), "arkit52").save(tmp_path / SHIPPED)
    assert f'"{SHIPPED}"' in example(), "the example opens the bank that ships; a small one lies in its place here"
    program = BEFORE + example() + AFTER
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "heavy: []" in done.stdout, done.stdout
    for room in ("render", "avatar", "tracking", "studio", "training"):
        assert f"raflib.{room}" not in done.stdout
