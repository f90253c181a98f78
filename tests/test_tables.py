import csv
import tracemalloc

import numpy as np
import pytest

from swav_jax.tables import Table, replace


def table(rows=3):
    random = np.random.RandomState(0)
    return Table(
        {
            "paths": np.array([f"a, {i}" for i in range(rows)]),
            "labels": np.arange(rows, dtype=np.int32) - 1,
            "embeddings": random.randn(rows, 2).astype(np.float32),
        }
    )


def test_csv_has_all_digits(tmp_path):
    mine = table(5000)
    mine.to_csv(tmp_path / "t.csv")
    with open(tmp_path / "t.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["paths", "labels", "embeddings_0", "embeddings_1"]
    assert [row["paths"] for row in rows] == mine["paths"].tolist()
    assert [int(row["labels"]) for row in rows] == mine["labels"].tolist()
    numbers = [[row["embeddings_0"], row["embeddings_1"]] for row in rows]
    np.testing.assert_array_equal(np.array(numbers).astype(np.float32), mine["embeddings"])
    assert max(len(number) for row in numbers for number in row) < 16


def test_wide_tables_are_written_in_little_memory(tmp_path):
    columns = {
        "paths": np.array([f"{i:0100}" for i in range(200)]),
        "embeddings": np.random.RandomState(0).randn(200, 1000).astype(np.float32),
    }
    tracemalloc.start()
    try:
        Table(columns).to_csv(tmp_path / "t.csv")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20 < columns["embeddings"].nbytes + 2**18 < (tmp_path / "t.csv").stat().st_size


def test_npz_and_parquet_hold_the_columns(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    mine = table()
    mine.save(tmp_path / "t.npz")
    mine.save(tmp_path / "t.parquet")
    arrays = np.load(tmp_path / "t.npz")
    columns = parquet.read_table(tmp_path / "t.parquet").to_pydict()
    for name, column in mine.columns.items():
        np.testing.assert_array_equal(arrays[name], column)
        np.testing.assert_array_equal(np.array(columns[name], column.dtype), column)


def test_tables_without_rows_have_their_names(tmp_path):
    table(0).to_csv(tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == "paths,labels,embeddings_0,embeddings_1\n"


def test_an_older_file_of_other_content_is_kept(tmp_path):
    path = tmp_path / "t.csv"
    for rows in (1, 1, 2, 2, 3):
        table(rows).save(path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["t.csv", "t.csv.1", "t.csv.2"]
    lengths = [len((tmp_path / name).read_text().splitlines()) for name in ("t.csv", "t.csv.1")]
    assert lengths == [4, 2]


def test_what_fails_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "t.csv"
    table(1).save(path)
    before = path.read_text()

    def fail(partial):
        partial.write_text("half")
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        replace(path, fail)
    assert path.read_text() == before
