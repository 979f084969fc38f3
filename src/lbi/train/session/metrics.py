"""Metrics per epoch, written to a CSV file and to TensorBoard."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lbi.errors import InputError, Rule, require
from lbi.system.atomic import atomic_write

UNREADABLE = Rule("metrics", "the metrics of the interrupted run", "remove it, or give another --metrics")

COLUMNS = ("epoch", "loss", "accuracy", "validation", "rate", "density", "lr", "seconds")
"""Columns of the CSV file; ``validation`` is empty without a validation split."""


class Metrics:
    """Context manager that writes one row per epoch; with first_epoch > 0 (a resumed run) it appends.

    Rows of epochs that a resumed run repeats are dropped, so that the file reads like that of one run.
    """

    def __init__(self, path: Path | None, tensorboard: Path | None, first_epoch: int = 0) -> None:
        self._path = path
        self._rows: list[Mapping[str, Any]] = []
        self._board: Any = None
        if path is not None:
            self._rows += _rows_before(path, first_epoch) if first_epoch and path.exists() else []
            self._write_file(path)
        if tensorboard is not None:
            require("tensorboard", "tensorboard")
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(tensorboard))

    def write(self, record: Mapping[str, float]) -> None:
        """Add an epoch's record; the files can be read during the run.

        Args:
            record: the epoch's figures.
        """
        if self._path is not None:
            self._rows.append(record)
            self._write_file(self._path)
        if self._board is not None:
            for key in COLUMNS[1:]:
                if key in record:
                    self._board.add_scalar(key, record[key], int(record["epoch"]))
            self._board.flush()

    def _write_file(self, path: Path) -> None:
        with atomic_write(path) as new, new.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(self._rows)

    def __enter__(self) -> Metrics:
        return self

    def __exit__(self, *_: object) -> None:
        if self._board is not None:
            self._board.close()


def _rows_before(path: Path, first_epoch: int) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [
                row
                for row in csv.DictReader(file)
                if (row.get("epoch") or "").isdecimal() and int(row["epoch"]) <= first_epoch
            ]
    except (ValueError, csv.Error) as error:
        found = f"cannot be read ({' '.join(str(error).split())})"
        raise InputError(UNREADABLE.broken(str(path), found)) from error
