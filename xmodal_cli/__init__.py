"""xmodal: train image-text matchers and captioners, search and caption photos."""

import os

from xmodal_cli.version import __version__ as __version__

# From 1.29 on, onnxruntime reports its use to its makers and keeps a device's number in the home folder, unless it is
# told not to before it is loaded. Nobody who searches their photos asked for that.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
