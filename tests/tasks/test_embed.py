import numpy as np
import pytest
from sklearn.datasets import load_digits

from swav_jax.data.sources.source import DataError
from swav_jax.tasks.embed import embed_task
from swav_jax.trained import settings_of
from swav_jax.workdir import read_results


def embed(workdir, **settings):
    config = settings_of(workdir)
    config.eval.update(settings)
    embed_task(config, workdir)


def test_embeddings_of_a_folder(workdir, photos, capsys):
    embed(workdir, data_dir=str(photos))
    found = np.load(workdir / "embeddings.npz")
    assert found["embeddings"].shape == (13, 16) and found["embeddings"].dtype == np.float32
    assert found["paths"][5] == str(photos / "dog/06.png")
    assert found["labels"].tolist() == [0] * 5 + [1] * 8
    assert found["classes"].tolist() == ["cat"] * 5 + ["dog"] * 8
    results = read_results(workdir)["embed"]
    assert (results["embedded"], results["unreadable"]) == (13, 1)
    assert "unreadable" in capsys.readouterr().out


def test_embeddings_of_a_list(workdir, photos):
    one, two = photos / "dog/08.png", photos / "cat/02.png"
    (workdir / "list.txt").write_text(f"{one}\n{two}\n")
    embed(workdir, images=str(workdir / "list.txt"), layer="embedding", format="csv")
    lines = (workdir / "embeddings.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["paths", str(one), str(two)]
    embed(workdir, data_dir=str(photos), layer="embedding")
    both = np.load(workdir / "embeddings.npz")
    row = both["paths"].tolist().index(str(one))
    numbers = np.array(lines[1].split(",")[1:9], np.float32)
    np.testing.assert_allclose(numbers, both["embeddings"][row], atol=1e-6)


def test_a_list_names_records_as_tables_do(workdir):
    (workdir / "list.txt").write_text("digit 7\ndigit 31\n\n")
    embed(workdir, images=str(workdir / "list.txt"))
    found = np.load(workdir / "embeddings.npz")
    assert found["paths"].tolist() == ["digit 31", "digit 7"]  # in the order of the data set
    assert found["labels"].tolist() == load_digits().target[[31, 7]].tolist()
    with pytest.raises(DataError, match=r"'list\.txt' is neither a file that lists images nor a"):
        embed(workdir, images="list.txt")
    (workdir / "list.txt").write_text("digit 7\ndigit 9999\n")
    with pytest.raises(DataError, match=r"files are not there: .* 1 of 2 listed names are of no"):
        embed(workdir, images=str(workdir / "list.txt"))


def test_one_image_without_a_label(workdir, photos):
    (workdir / "list.txt").write_text(f"{photos}/dog/08.png\n")
    embed(workdir, images=str(workdir / "list.txt"))
    found = np.load(workdir / "embeddings.npz")
    assert found["embeddings"].shape == (1, 16) and set(found) == {"paths", "embeddings"}


def test_older_embeddings_are_kept(workdir, photos):
    for layer in ("pooled", "pooled", "embedding"):
        embed(workdir, data_dir=str(photos), layer=layer)
    assert np.load(workdir / "embeddings.npz")["embeddings"].shape == (13, 8)
    assert np.load(workdir / "embeddings.npz.1")["embeddings"].shape == (13, 16)
    assert not (workdir / "embeddings.npz.2").exists()


def test_no_image_is_an_error(workdir, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image in"):
        embed(workdir, data_dir=str(tmp_path / "empty"), data_name="folder")


def test_a_file_that_cannot_be_written_is_an_error(workdir, photos):
    (workdir / ".embeddings.npz.partial").mkdir()  # in the way, for root too
    with pytest.raises(OSError, match=r"embeddings\.npz"):
        embed(workdir, data_dir=str(photos))


def test_parquet(workdir, photos):
    parquet = pytest.importorskip("pyarrow.parquet")
    embed(workdir, data_dir=str(photos), format="parquet")
    table = parquet.read_table(workdir / "embeddings.parquet")
    assert table.num_rows == 13 and len(table["embeddings"][0]) == 16
