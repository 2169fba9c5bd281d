"""A tiny checkpoint with random weights on disk: `python -m ops.benchmarks.toy_checkpoint FOLDER`.

What it hears is noise that depends on every frame, and costs almost nothing: for the load of
everything around the model.
"""

import sys
from pathlib import Path

from tests.model.checkpoints.weights import random_weights, write_native

if __name__ == "__main__":
    write_native(Path(sys.argv[1]), random_weights())
