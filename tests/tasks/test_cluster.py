import csv

import pytest

from swav_jax.config import ConfigError
from swav_jax.tasks.cluster import cluster_task
from swav_jax.tasks.embed import embed_task
from swav_jax.trained import settings_of
from swav_jax.workdir import read_results


def cluster(workdir, **settings):
    config = settings_of(workdir)
    config.eval.update(settings)
    cluster_task(config, workdir)
    with open(workdir / "clusters.csv", newline="") as file:
        return list(csv.DictReader(file))


def tree(folder):
    return {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}


def test_clusters_of_a_folder(workdir, photos):
    rows = cluster(workdir, data_dir=str(photos))
    assert list(rows[0]) == ["path", "cluster", "score", "second_cluster", "entropy", "rank"]
    assert len(rows) == 13 and rows[0]["path"] == str(photos / "cat/00.png")
    with open(workdir / "cluster_sizes.csv", newline="") as file:
        sizes = {row["cluster"]: int(row["images"]) for row in csv.DictReader(file)}
    assert len(sizes) == 12 and 0 in sizes.values()
    assert all(sum(r["cluster"] == c for r in rows) == size for c, size in sizes.items())
    results = read_results(workdir)["cluster"]
    assert {"nmi", "ami", "purity", "mutual_information", "homogeneity"} <= results.keys()
    begin, _, rest = results["protocol"].partition("; ")
    assert begin == "swav: nearest prototype" and rest.startswith("before training k-means")
    assert 0 < results["random_init_nmi"] < 1 and 60 < results["random_init_purity"] <= 100


def test_without_labels_sizes_are_the_figures(workdir, photos):
    rows = cluster(workdir, data_dir=str(photos / "dog"))
    results = read_results(workdir)["cluster"]
    assert (
        len(rows) == 8
        and results["clustered"] == 8
        and not {"nmi", "random_init_nmi"} & set(results)
    )


@pytest.mark.parametrize("by", ["copy", "link"])
def test_images_are_sorted_into_folders(workdir, photos, tmp_path, by):
    sorted_into = tmp_path / "sorted"
    settings = {"data_dir": str(photos), "sort_into": str(sorted_into), "sort_by": by}
    rows = cluster(workdir, **settings)
    found = tree(sorted_into)
    expected = {f"{int(row['cluster']):02}/{row['path'][-6:]}" for row in rows}
    assert found.keys() == expected | {"clusters.csv"}
    for row in rows:
        image = found[f"{int(row['cluster']):02}/{row['path'][-6:]}"]
        assert image.is_symlink() == (by == "link")
        with open(row["path"], "rb") as original:
            assert image.read_bytes() == original.read()
    found[min(expected)].unlink()
    cluster(workdir, **settings)  # goes on
    assert tree(sorted_into).keys() == found.keys()
    with pytest.raises(ConfigError, match="Name a new folder"):
        cluster(workdir, **settings, cluster_by="kmeans", clusters=2)
    assert tree(sorted_into).keys() == found.keys()
    assert read_results(workdir)["cluster"]["clusters"] == 2  # what was computed is kept


def test_images_of_one_name_are_all_there(workdir, photos, tmp_path):
    data = tmp_path / "data"
    long = f"y{125 * 'ä'}.png"  # 255 bytes may be a name
    for folder, names in (("a", ("x.png", long)), ("b", ("x.png", long)), ("c", ("x.png",))):
        (data / folder).mkdir(parents=True)
        for name in names:
            image = (photos / "dog/08.png").read_bytes() + folder.encode()
            (data / folder / name).write_bytes(image)
    cluster(workdir, data_dir=str(data), sort_into=str(tmp_path / "sorted"))
    names = {path.name for path in tree(tmp_path / "sorted").values()}
    assert names == {"x.png", "x_2.png", "x_3.png", long, f"y{124 * 'ä'}_2.png", "clusters.csv"}


def test_what_somebody_else_sorted_is_said_before_the_work(workdir, photos, tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"theirs holds notes\.txt, sorted by"):
        cluster(workdir, data_dir=str(photos), sort_into=str(tmp_path / "theirs"))
    assert not (workdir / "features").exists()


def test_a_package_that_is_missing_is_said_before_the_work(workdir, photos, monkeypatch):
    monkeypatch.setattr("swav_jax.tables.find_spec", lambda _: None)
    for task in (cluster_task, embed_task):
        config = settings_of(workdir)
        config.eval.update(data_dir=str(photos), format="parquet")
        with pytest.raises(ConfigError, match="pip install pyarrow"):
            task(config, workdir)
    assert not (workdir / "features").exists()


def test_copies_would_be_more_images(workdir, photos):
    for folder in (photos / "sorted", photos):
        with pytest.raises(ConfigError, match="copies would be taken for more images"):
            cluster(workdir, data_dir=str(photos), sort_into=str(folder))
    assert not (photos / "sorted").exists()


def test_only_files_can_be_sorted(workdir, tmp_path):
    with pytest.raises(ConfigError, match=r"digit \d+ is none"):
        cluster(workdir, sort_into=str(tmp_path / "sorted"))


def test_a_folder_that_cannot_be_made(workdir, photos, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        cluster(workdir, data_dir=str(photos), sort_into=str(tmp_path / "file" / "sorted"))
    assert not (workdir / "clusters.csv").exists()
