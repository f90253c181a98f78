"""Tables about images, a row each: in memory, and as CSV, Parquet or npz files."""

import csv
import filecmp
import itertools
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from swav_jax.config import ConfigError
from swav_jax.runtime.storage import AnyPath, copy_file, in_bucket


@dataclass(frozen=True)
class Table:
    """Columns of N rows by name, numbers or text; a column can have several numbers a row."""

    columns: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    def to_csv(self, path: str | Path) -> None:
        """Writes a line of names and one for each row.

        A column `name` of F numbers a row is `name_0` to `name_<F - 1>`. Numbers are written with
        all their digits.

        Raises:
          OSError: the file cannot be written.
        """
        columns: dict[str, np.ndarray] = {}
        for name, column in self.columns.items():
            if column.ndim == 1:
                columns[name] = column
            else:
                flat = column.reshape(len(self), math.prod(column.shape[1:]))
                columns |= {f"{name}_{i}": one for i, one in enumerate(flat.T)}
        with open(path, "w", newline="", encoding="utf-8") as file:
            lines = csv.writer(file, lineterminator="\n")
            lines.writerow(columns)
            # A row at a time, of NumPy's scalars: a float32 has no more digits than it needs.
            lines.writerows(zip(*columns.values(), strict=True))

    def to_parquet(self, path: str | Path) -> None:
        """Writes a Parquet file; a column of several numbers a row is one of lists.

        Raises:
          ConfigError: pyarrow is not installed.
          OSError: the file cannot be written.
        """
        check_format("parquet")
        import pyarrow  # optional: 150 MB
        import pyarrow.parquet

        def array(column: np.ndarray) -> Any:
            if column.ndim == 1:
                return pyarrow.array(column)
            flat = column.reshape(len(column), -1)
            values = pyarrow.array(flat.reshape(-1))
            return pyarrow.FixedSizeListArray.from_arrays(values, flat.shape[1])

        arrays = {name: array(column) for name, column in self.columns.items()}
        pyarrow.parquet.write_table(pyarrow.table(arrays), str(path))

    def to_npz(self, path: str | Path) -> None:
        """Writes an array for each column, for `numpy.load`.

        Raises:
          OSError: the file cannot be written.
        """
        with open(path, "wb") as file:
            np.savez(file, allow_pickle=False, **self.columns)

    def save(self, path: AnyPath) -> None:
        """Writes the format that the path's suffix names, whole or not at all; see `replace`."""
        with_suffix = {"csv": self.to_csv, "parquet": self.to_parquet, "npz": self.to_npz}
        replace(path, with_suffix[path.suffix[1:]])


def check_format(suffix: str) -> None:
    """Checks, before a table is computed, that files of this suffix can be written.

    Raises:
      ConfigError: pyarrow is not installed.
    """
    if suffix == "parquet" and not find_spec("pyarrow"):
        raise ConfigError(
            "Parquet files are written by pyarrow, which is not installed: pip install pyarrow, or "
            "choose another --config.eval.format, npz or csv"
        )


def replace(path: AnyPath, write: Callable[[Path], object]) -> None:
    """Writes a file; an older one of other content is kept, as `<name>.1` or the next free number.

    Args:
      path: of the file.
      write: writes it to the path on a disk that it gets.
    """
    if in_bucket(path):
        with tempfile.TemporaryDirectory() as folder:
            new = Path(folder) / path.name
            write(new)
            if path.exists() and path.read_bytes() != new.read_bytes():
                copy_file(path, _aside(path))
            copy_file(new, path)
        return
    new = Path(path).with_name(f".{path.name}.partial")
    write(new)
    if path.exists() and not filecmp.cmp(new, path, shallow=False):
        path.rename(_aside(path))
    new.replace(path)


def _aside(path: AnyPath) -> AnyPath:
    numbered = (path.with_name(f"{path.name}.{number}") for number in itertools.count(1))
    aside = next(other for other in numbered if not other.exists())
    logging.info("the older %s is %s now", path, aside.name)
    return aside
