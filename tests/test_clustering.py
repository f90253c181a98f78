import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from images import smooth
from tiny import tiny_config

from swav_jax import clustering, sharding
from swav_jax.clustering import visit_all
from swav_jax.data.batches import train_batches
from swav_jax.data.sources.digits import open_digits
from swav_jax.run import build


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize(("view", "visited"), [("center", 1500), ("crops", 1488)])
def test_every_image_is_visited_once_in_parts_that_fit(view, visited, parts):
    config = tiny_config("simclr")
    config.train.accumulate = parts
    run = build(config)

    def count(counts, batch):
        assert len(batch.index) == 16 // parts == len(batch.crops[0])
        return counts.at[batch.index].add(1, mode="drop")

    with jax.set_mesh(run.mesh):
        zeros = sharding.zeros((1504,), jnp.int32, sharding.WHOLE)
        counts = np.asarray(visit_all(run, 0, count, zeros, view))
    assert counts.max() == 1 and counts[:1500].sum() == counts.sum() == visited


def test_a_pass_sees_other_crops_than_the_epoch_after_it(monkeypatch):
    config = tiny_config("simclr")
    run = build(config)
    fold_crops = clustering._fold_crops

    def alone(carry, *rest):
        assert carry.is_ready()  # or eight devices of one CPU wait for each other in two batches
        return fold_crops(carry, *rest)

    monkeypatch.setattr(clustering, "_fold_crops", alone)

    def brightness(sums, batch):
        return sums.at[batch.index].set(batch.crops[0].sum((1, 2, 3, 4)), mode="drop")

    with jax.set_mesh(run.mesh):
        zeros = sharding.zeros((1504,), jnp.float32, sharding.WHOLE)
        seen = np.asarray(visit_all(run, 0, brightness, zeros, "crops"))
        batch = next(train_batches(run.source, config.data.crops, 16, seed=config.seed))
        crops = run.augment(sharding.put_batch(run.mesh, batch), epoch=0)[0]
    trained = np.asarray(crops.sum((1, 2, 3, 4)))
    visited = seen[batch.index]
    shown = visited != 0  # the pass leaves out the images that do not fill its last batch
    assert shown.sum() > 10 and not np.isclose(visited, trained)[shown].any()


def test_a_pass_over_images_that_are_held_decodes_none_again():
    config, digits, asked = tiny_config("simclr"), open_digits("train"), []
    config.data.update(eval_resize=0, eval_crop=0)

    def decode(number):
        asked.append(number)
        if number == 3:
            raise OSError("damaged")
        return digits.decode(number)

    source = dataclasses.replace(digits, decode=decode, may_fail=True)

    def brightness(sums, batch):
        return sums.at[batch.index].set(batch.crops[0].sum((1, 2, 3, 4)), mode="drop")

    def seen(cache):
        config.data.cache = cache
        run = build(config, source)
        with jax.set_mesh(run.mesh):
            zeros = sharding.zeros((1504,), jnp.float32, sharding.WHOLE)
            return [np.asarray(visit_all(run, 0, brightness, zeros + 0, "center")) for _ in "ab"]

    read = seen("none")
    assert read[0][2] and not read[0][3] and len(asked) == 2 * 1504
    np.testing.assert_array_equal(seen("host"), read)
    assert set(asked[2 * 1504 :]) == set(range(1500)) and len(asked) < 3 * 1504 + 256


@pytest.mark.parametrize(("resize", "size"), [(0, 16), (18, 18)])
def test_images_of_several_sizes_are_cut_to_one(tmp_path, resize, size):
    for number in range(16):
        smooth(number, 20 + number, 30).save(tmp_path / f"{number:02}.png")
    config = tiny_config("simclr")
    config.data.update(name="folder", data_dir=str(tmp_path), eval_resize=resize, eval_crop=0)
    run = build(config)

    def count(count, batch):
        assert batch.crops[0].shape[2:] == (size, size, 3)
        return count + (batch.index < 16).sum()

    with jax.set_mesh(run.mesh):
        zero = sharding.zeros((), jnp.int32, sharding.WHOLE)
        assert int(visit_all(run, 0, count, zero, "center")) == 16
