"""The oracle's own Python environment: `.build/oracle-venv`, made on first use from `requirements.txt`."""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
FIXTURES = REPOSITORY / "tests" / "fixtures"
VENV = REPOSITORY / ".build" / "oracle-venv"
REQUIREMENTS = HERE / "requirements.txt"
# Without their dependencies, and built with what is there.
ALONE = HERE / "requirements-formats.txt"
STAMP = VENV / "requirements.sha256"


def ensure() -> None:
    """Makes sure that the caller runs inside the oracle's environment.

    Creates the environment where it is missing or out of date, and starts the running script anew in it.
    """
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + ALONE.read_bytes()).hexdigest()
    if not STAMP.exists() or STAMP.read_text() != wanted:
        print(f"Setting up {VENV.relative_to(REPOSITORY)} (once; PyTorch is large) …", file=sys.stderr)
        venv.EnvBuilder(with_pip=True).create(VENV)
        pip = [VENV / "bin" / "python", "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "-r", REQUIREMENTS, "setuptools", "wheel"], check=True)
        subprocess.run([*pip, "--no-deps", "--no-build-isolation", "-r", ALONE], check=True)
        STAMP.write_text(wanted)
    if Path(sys.prefix).resolve() != VENV.resolve():
        python = str(VENV / "bin" / "python")
        os.execv(python, [python, *sys.argv])
    # No model hub is ever asked: everything is made here.
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


if __name__ == "__main__":
    ensure()
    print(VENV)
