"""The number of threads is the same before and after ranks, or a resumed run would round differently from its start."""

from __future__ import annotations

import json
import os
import subprocess
import sys

CODE = """
import json, numpy as np, torch
from xmodal_cli.retrieval.ranks import keep_num_threads
from xmodal_cli.retrieval.ranks import compute_ranks
seen = [torch.get_num_threads()]
keep_num_threads()
vectors = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
for similarity in ("cosine", "order"):
    compute_ranks(vectors, vectors, np.arange(50), similarity)
    seen.append(torch.get_num_threads())
print(json.dumps(seen))
"""


def test_ranks_leave_torch_its_threads():
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # numba would set it to the number of CPUs
    ended = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True, env=environment)
    assert json.loads(ended.stdout) == [1, 1, 1]
