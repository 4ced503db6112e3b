"""``compute_ranks`` keeps the number of torch threads, on which the rounding of a resumed run depends."""

from __future__ import annotations

import json
import os
import subprocess
import sys

CODE = """
import json, numpy as np, torch
from xmodal_cli.retrieval.ranks import keep_num_threads
from xmodal_cli.retrieval.ranks import compute_ranks
num_threads = [torch.get_num_threads()]
keep_num_threads()
vectors = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
for similarity in ("cosine", "order"):
    compute_ranks(vectors, vectors, np.arange(50), similarity)
    num_threads.append(torch.get_num_threads())
print(json.dumps(num_threads))
"""


def test_ranks_do_not_change_the_number_of_torch_threads():
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # numba would set it to the number of CPUs
    process = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True, env=environment)
    assert json.loads(process.stdout) == [1, 1, 1]
