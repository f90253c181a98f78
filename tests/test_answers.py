import numpy as np
import pytest
from tiny import tiny_config

from swav_jax import answers, train
from swav_jax.answers import agreement_before_training, find_clusters, read_rows
from swav_jax.checkpoints.read import load_variables
from swav_jax.config import ConfigError
from swav_jax.data.sources.source import DataError
from swav_jax.evals.agreement import agreement, nmi
from swav_jax.evals.clusters import assign_by_kmeans
from swav_jax.methods.pcl import PCL
from swav_jax.methods.swav import SwAV
from swav_jax.trained import open_trained, settings_of


def of_photos(workdir, photos, **settings):
    config = settings_of(workdir)
    config.eval.data_dir = str(photos)
    config.eval.update(settings)
    return open_trained(config, workdir)


def test_unreadable_images_are_left_out_and_named(workdir, photos, caplog):
    trained = of_photos(workdir, photos)
    rows = read_rows(trained, trained.images(), "pooled")
    assert rows.features.shape == (13, 16) and rows.features.any(axis=1).all()
    assert len(rows.names) == 13 and str(photos / "cat/03.png") not in rows.names
    assert rows.labels.tolist() == [0] * 5 + [1] * 8
    assert "03.png (no image: it begins with b'no image')" in caplog.text


def test_stages_are_maps(workdir, photos):
    trained = of_photos(workdir, photos)
    maps = read_rows(trained, trained.images(), "c2").features
    pooled = read_rows(trained, trained.images(), "pooled").features
    assert maps.shape == (13, 8, 8, 16)
    np.testing.assert_allclose(maps.mean(axis=(1, 2)), pooled, rtol=1e-5, atol=1e-6)
    with pytest.raises(ConfigError, match=r"eval\.layer is c5, but one_conv has c2"):
        read_rows(trained, trained.images(), "c5")


def test_kmeans_of_a_stage_is_of_the_means_of_its_maps(workdir, photos):
    by = {"cluster_by": "kmeans", "clusters": 3}
    trained = of_photos(workdir, photos, layer="c2", **by)
    found = find_clusters(trained, trained.images())
    assert found.how == "spherical k-means, c2_mean features"
    trained = of_photos(workdir, photos, layer="pooled", **by)
    pooled = find_clusters(trained, trained.images())
    np.testing.assert_allclose(found.rows.features, pooled.rows.features, rtol=1e-5, atol=1e-6)
    trained.config.eval.layer = "c5"
    with pytest.raises(ConfigError, match=r"eval\.layer is c5, but one_conv has c2"):
        find_clusters(trained, trained.images())


def test_embeddings_need_a_projection_head(workdir, photos):
    trained = of_photos(workdir, photos)
    trained.variables["params"].pop("head")  # as in DeepCluster, or an imported backbone
    assert len(read_rows(trained, trained.images(), "pooled").numbers) == 13
    with pytest.raises(ConfigError, match="has no projection head: use pooled"):
        read_rows(trained, trained.images(), "embedding")


def test_no_readable_image_is_an_error(workdir, tmp_path):
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "photos" / name).write_bytes(b"text")
    trained = of_photos(workdir, tmp_path / "photos")
    with pytest.raises(DataError, match=r"2 of 2 images cannot be read: .*a.png \(no image"):
        read_rows(trained, trained.images(), "pooled")


def test_swav_clusters_by_its_nearest_prototype(workdir, photos):
    trained = of_photos(workdir, photos)
    found = find_clusters(trained, trained.images())
    prototypes = np.asarray(trained.variables["params"]["prototypes"]["prototypes0"])
    scores = found.rows.features @ (prototypes / np.linalg.norm(prototypes, axis=1)[:, None]).T
    np.testing.assert_array_equal(found.clusterings[0].cluster, scores.argmax(axis=1))
    np.testing.assert_allclose(found.clusterings[0].score, scores.max(axis=1), atol=1e-6)
    assert list(found.table().columns) == [
        "path", "cluster", "score", "second_cluster", "entropy", "rank"
    ]  # fmt: skip


def test_members_and_figures_count_empty_clusters(workdir, photos):
    trained = of_photos(workdir, photos)
    found = find_clusters(trained, trained.images())
    members, cluster = found.members(), found.clusterings[0].cluster
    assert len(members) == 12 and members["images"].sum() == 13
    assert (members["images"] == 0).any() and set(members["class"]) <= {"", "cat", "dog"}
    for number in range(12):
        labels = found.rows.labels[cluster == number]
        purest = 100 * max(np.mean(labels == 0), np.mean(labels == 1)) if len(labels) else 0
        assert members["purity"][number] == pytest.approx(purest)
    figures = found.figures()
    assert agreement(found.rows.labels, cluster).items() <= figures.items()
    assert figures["empty"] == np.sum(members["images"] == 0) and figures["smallest"] == 0
    assert (figures["clusters"], figures["clustered"]) == (12, 13)


@pytest.mark.parametrize(
    ("by", "how"), [("sinkhorn", "swav: Sinkhorn codes"), ("kmeans", "spherical k-means, pooled")]
)
def test_other_ways_to_cluster(workdir, photos, by, how):
    trained = of_photos(workdir, photos, cluster_by=by, clusters=3)
    found = find_clusters(trained, trained.images())
    assert found.how.startswith(how)
    assert found.sizes == ([3] if by == "kmeans" else [12])


def test_before_training_an_image_counts_that_can_still_be_read(workdir, photos, monkeypatch):
    trained = of_photos(workdir, photos, cluster_by="kmeans", clusters=3)
    images = trained.images()
    found = find_clusters(trained, images)
    random = np.random.RandomState(0).randn(14, 16).astype(np.float32)
    random[[3, 5]] = np.nan  # the trained network's features of number 5 were kept
    kept = [0, 1, 2, 4, *range(6, 14)]
    clusters = assign_by_kmeans(random[kept], 3, temperature=0.1, seed=trained.config.seed)
    expected = agreement(images.source.labels[kept], clusters.cluster)
    monkeypatch.setattr(answers, "features", lambda *_: random)
    assert agreement_before_training(trained, images, found) == expected
    random[:] = np.nan
    assert agreement_before_training(trained, images, found) == {}


def test_more_clusters_than_images_are_refused(workdir, photos):
    trained = of_photos(workdir, photos, cluster_by="kmeans", clusters=14)
    with pytest.raises(ConfigError, match=r"eval\.clusters is 14, but there are 13 images"):
        find_clusters(trained, trained.images())


def test_pcl_clusters_by_its_key_encoder_at_each_level(tmp_path, monkeypatch):
    config = tiny_config("pcl")
    config.data.crops = ((2, 16, 0.4, 1.0),)
    config.model.prototypes, config.train.steps = 40, 1
    config.method.update(
        warmup_epochs=0, negative_prototypes=8, granularity=(1, 2), queue_length=32
    )
    train.pretrain(config, tmp_path)
    trained = open_trained(settings_of(tmp_path), tmp_path)
    found = find_clusters(trained, trained.images())
    then, _ = load_variables(tmp_path, ["extra/assignments"])
    assert found.sizes == [40, 80] and "cluster_1" in found.table().columns
    monkeypatch.setattr(PCL, "clustered_encoder", lambda self, saved: None)
    by_queries = find_clusters(trained, trained.images())
    for level, clusters in enumerate(np.asarray(then["extra"]["assignments"][:, :1500])):
        agreed = [nmi(clusters, by.clusterings[level].cluster) for by in (found, by_queries)]
        assert agreed[0] > 0.7 > agreed[1]
    trained.config.eval.cluster_by = "sinkhorn"
    with pytest.raises(ConfigError, match="pcl has no Sinkhorn codes"):
        find_clusters(trained, trained.images())


@pytest.mark.parametrize("why", ["the method has none", "they were not imported"])
def test_without_prototypes_there_is_kmeans(workdir, photos, monkeypatch, why):
    missing = () if why == "the method has none" else ("params/classifier",)
    monkeypatch.setattr(SwAV, "prototypes_in", missing)
    trained = of_photos(workdir, photos, clusters=3)
    assert find_clusters(trained, trained.images()).sizes == [3]
    trained.config.eval.cluster_by = "prototypes"
    with pytest.raises(ConfigError, match="no prototypes: use kmeans"):
        find_clusters(trained, trained.images())
