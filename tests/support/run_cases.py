"""Run many exports in one child, because importing Lava-DL takes seconds.

    python run_cases.py RUN_SCRIPT SUFFIX FOLDER

runs every ``FOLDER/<case><SUFFIX>`` on ``FOLDER/<case>.npz`` and writes ``FOLDER/<case>.out.npz``.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np


def main() -> None:
    script, suffix, folder = sys.argv[1:]
    spec = importlib.util.spec_from_file_location(Path(script).stem, script)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    for path in sorted(Path(folder).glob(f"*{suffix}")):
        with np.load(path.with_suffix(".npz")) as file:
            output = module.run(path, file["spikes"])
        np.savez(path.with_suffix(".out.npz"), output=output)


if __name__ == "__main__":
    main()
