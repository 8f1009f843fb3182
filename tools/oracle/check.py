#!/usr/bin/env python3
"""Compares fixtures: `python3 tools/oracle/check.py` the committed ones with those that the oracle makes now,
`python3 tools/oracle/check.py --results folder` what an engine computed with the committed models.

`python3 tools/oracle/check.py --converted folder` the checkpoints that an engine converted: what
mlx-lm computes of them with the logits in their `golden.safetensors`, or those of the model
fixtures of the same names.
`python3 tools/oracle/check.py --prompt-caches folder` the prompt-cache files that an engine wrote for the fixtures of the same names.

The folder of results holds `<name of the model fixture>.safetensors` with any of `logits`, `logits_cached`, `greedy` as in the fixture's
safetensors file; models without a file are named.
"""

import environment

environment.ensure()

import argparse
import json
import sys
import tempfile
from pathlib import Path

import mlx.core as mx
import numpy as np

import converted
import make
from generate import prompt_caches, seeded

# Relative error ‖a − b‖ / ‖b‖ that the same computation may show on another processor.
REPRODUCED = 1e-5
# Relative error within which an engine agrees with the oracle.
AGREES = 1e-4
# What is measured, or says what it was measured with, is free to change.
NOT_COMPARED = {"relative_error", "versions"}


def as_numpy(array: mx.array) -> np.ndarray:
    floating = mx.issubdtype(array.dtype, mx.floating)
    return np.array(array.astype(mx.float32) if floating else array)


def relative_error(a: np.ndarray, b: np.ndarray) -> float:
    """Infinite values must stand at the same places and count as zero."""
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return float("inf")
    a, b = (np.where(np.isfinite(x), x, 0.0).astype(np.float64) for x in (a, b))
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30))


def difference(found: mx.array, wanted: mx.array, bar: float) -> str | None:
    """What is wrong with `found`, or none."""
    if (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
        return f"{found.dtype} {list(found.shape)} in place of {wanted.dtype} {list(wanted.shape)}"
    a, b = as_numpy(found), as_numpy(wanted)
    if not mx.issubdtype(found.dtype, mx.floating):
        return None if np.array_equal(a, b) else f"{int((a != b).sum())} of {a.size} values differ"
    error = relative_error(a, b)
    return None if error < bar else f"relative error {error:.1e}"


def compare_tensors(found: Path, wanted: Path) -> list[str]:
    a, b = mx.load(str(found)), mx.load(str(wanted))
    if a.keys() != b.keys():
        return [f"tensors differ: {', '.join(sorted(a.keys() ^ b.keys()))}"]
    wrong = ((name, difference(a[name], b[name], REPRODUCED)) for name in sorted(a))
    return [f"{name}: {what}" for name, what in wrong if what]


def comparable(content):
    if isinstance(content, dict):
        return {key: comparable(value) for key, value in content.items() if key not in NOT_COMPARED}
    if isinstance(content, list):
        return [comparable(value) for value in content]
    return content


def compare_files(found: Path, wanted: Path) -> list[str]:
    if found.suffix == ".safetensors":
        return compare_tensors(found, wanted)
    if found.suffix == ".json":
        same = comparable(json.loads(found.read_text())) == comparable(json.loads(wanted.read_text()))
    else:
        same = found.read_bytes() == wanted.read_bytes()
    return [] if same else ["the content differs"]


def check_fixtures() -> list[str]:
    """Faults of the committed fixtures, measured by the live oracle."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        make.make(fresh)
        names = [
            {path.relative_to(root) for path in root.rglob("*") if path.is_file()}
            for root in (environment.FIXTURES, fresh)
        ]
        committed, made = names
        faults = [f"{name}: missing" for name in sorted(made - committed)]
        faults += [f"{name}: the oracle makes no such file" for name in sorted(committed - made)]
        for name in sorted(committed & made):
            faults += [f"{name}: {what}" for what in compare_files(environment.FIXTURES / name, fresh / name)]
        print(f"{len(committed & made)} files compared")
    return faults


def check_results(folder: Path) -> list[str]:
    """Faults of an engine's results."""
    faults, missing = [], []
    models = environment.FIXTURES / "models"
    names = seeded.names(models)
    for name in names:
        results = folder / f"{name}.safetensors"
        if not results.exists():
            missing.append(name)
            continue
        found, wanted = mx.load(str(results)), mx.load(str(models / f"{name}.safetensors"))
        # Kept apart only where they differ from those of one pass.
        wanted.setdefault("logits_cached", wanted["logits"])
        for key in ("logits", "logits_cached", "greedy"):
            if key in found:
                what = difference(found[key].astype(wanted[key].dtype), wanted[key], AGREES)
                error = "" if key == "greedy" else f" {relative_error(as_numpy(found[key]), as_numpy(wanted[key])):.1e}"
                print(f"{name} {key}:{error} {what or 'agrees'}")
                faults += [f"{name} {key}: {what}"] if what else []
    if missing:
        print(f"without results: {', '.join(missing)}")
    if missing == names:
        faults.append(f"{folder} holds no results")
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, help="a folder of what an engine computed")
    parser.add_argument("--converted", type=Path, help="a folder of checkpoints that an engine converted")
    parser.add_argument("--prompt-caches", type=Path, help="a folder of prompt-cache files that an engine wrote")
    arguments = parser.parse_args()
    if arguments.converted:
        faults = converted.check(arguments.converted)
    elif arguments.prompt_caches:
        faults = prompt_caches.check(arguments.prompt_caches)
    else:
        faults = check_results(arguments.results) if arguments.results else check_fixtures()
    print("\n".join(faults) or "everything agrees")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
