#!/usr/bin/env python3
"""Accuracy against density, as the Bregman papers tabulate it: one data set, several optimizers and seeds.

A call of ``lbi-sweep``, which writes results.csv, results.md and plots, and which the same command continues.

usage: paper_table.py --dataset psdigits -o OUT [--data DIR] [--densities 0.25,0.1,0.05] [--seeds 0,1,2]
                      [--optimizers adam,adabreg,linbreg,prune,rigl] [any other option of lbi-sweep]
"""

from __future__ import annotations

import argparse

from lbi.cli.sweep import main as sweep


def main() -> None:
    """Translate the options and run the sweep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="psdigits")
    parser.add_argument("--optimizers", default="adam,adabreg,linbreg,prune,rigl")
    parser.add_argument("--densities", default="0.25,0.1,0.05")
    parser.add_argument("--seeds", default="0,1,2")
    known, others = parser.parse_known_args()
    lists = ["--optimizer", known.optimizers, "--density", known.densities, "--seed", known.seeds]
    sweep(["--dataset", known.dataset, *lists, *others])


if __name__ == "__main__":
    main()
