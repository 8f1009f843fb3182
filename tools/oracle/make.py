#!/usr/bin/env python3
"""Makes every fixture under `tests/fixtures` anew: `python3 tools/oracle/make.py [part …] [--out folder] [--architecture name …]`."""

import environment

environment.ensure()

import argparse
import importlib
from pathlib import Path

PARTS = [
    "chat",
    "tokenizers",
    "vocabularies",
    "models",
    "batches",
    "conversions",
    "adapters",
    "configurations",
    "rope",
    "caches",
    "prompt_caches",
    "sampling",
    "formats",
    "embedders",
    "prediction_heads",
    "defaults",
]


def make(out: Path, parts: list[str] = PARTS, only: tuple[str, ...] = ()) -> None:
    """Writes the fixtures of `parts` under `out`; of the models `only` these architectures, where some are named."""
    for part in parts:
        arguments = (list(only),) if part == "models" else ()
        importlib.import_module(f"generate.{part}").make(out, *arguments)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"one of {', '.join(PARTS)}; all where none is named")
    parser.add_argument("--out", type=Path, default=environment.FIXTURES)
    parser.add_argument("--architecture", nargs="+", default=[], help="make the models of these architectures alone")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"unknown part: {', '.join(sorted(unknown))}")
    parts = ["models"] if arguments.architecture else arguments.parts or PARTS
    make(arguments.out, parts, tuple(arguments.architecture))
