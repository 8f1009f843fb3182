#!/usr/bin/env python3
"""What mlx-lm computes of checkpoints that an engine converted: `python3 tools/oracle/converted.py folder`, with mlx-lm alone installed.

The folder has a checkpoint in each of its folders, and beside it what the engine computed: `golden.safetensors` with `tokens` and `logits`. Where
there is none it is that of the model fixture of the same name.
"""

import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
from generate import gathering
from generate.oracle import MlxOracle

FIXTURES = Path(__file__).resolve().parent.parent.parent / "tests" / "fixtures" / "models"
# Relative error: factors that are multiplied into 16 bits are rounded.
AGREES = 5e-3


def fault(folder: Path) -> str | None:
    """What is wrong with a checkpoint: mlx-lm does not load it, or computes something else."""
    own = folder / "golden.safetensors"
    golden = mx.load(str(own if own.exists() else FIXTURES / f"{folder.name}.safetensors"))
    wanted = np.array(golden["logits"])
    try:
        oracle = MlxOracle(folder)
        logits = oracle.step(np.array(golden["tokens"]), oracle.start())[-len(wanted) :]
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        if "No Metal back-end" in str(error):
            # mlx-lm runs some models on a Mac alone. That it has loaded this one is seen.
            print(f"{folder.name}: not computed: {error}")
            return None
        return repr(error)
    error = float(np.linalg.norm(logits - wanted) / np.linalg.norm(wanted))
    print(f"{folder.name}: relative error {error:.1e}")
    # What is no number is wrong, too.
    return None if error <= AGREES else f"relative error {error:.1e}"


def check(folder: Path) -> list[str]:
    """Faults of all checkpoints in a folder."""
    gathering.install()
    found = ((path.parent, fault(path.parent)) for path in sorted(folder.glob("*/config.json")))
    return [f"{path.name}: {what}" for path, what in found if what]


if __name__ == "__main__":
    faults = check(Path(sys.argv[1]))
    print("\n".join(faults) or "everything agrees")
    sys.exit(1 if faults else 0)
