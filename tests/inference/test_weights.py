"""Loading a captioner imports none of the large libraries that its network does not use."""

from __future__ import annotations

import subprocess
import sys

UNUSED = ("torchvision", "timm", "transformers", "open_clip", "sympy", "torch._dynamo")


def test_the_bundled_captioner_needs_only_torch():
    code = (
        "import sys\nfrom xmodal_cli.inference.captioners import load_captioner\n"
        "from xmodal_cli.inference.torch_backbones import backbone_of\n"
        "loaded = load_captioner('starter-captioner')\nbackbone_of(loaded.name, loaded.meta)\n"
        f"print([name for name in {UNUSED} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
