import bucket
import pytest
from bucket import OBJECTS
from checkpoints.states import assert_same_bits, make_state, save_steps

from swav_jax.checkpoints.read import load_metadata
from swav_jax.checkpoints.store import Checkpoints
from swav_jax.runtime.storage import files_below, located
from swav_jax.workdir import saved_steps


@pytest.fixture
def directory(monkeypatch):
    with bucket.served(monkeypatch):
        yield located("s3://bucket/run/checkpoints")


def names(prefix):
    return sorted(OBJECTS.listed(f"bucket/run/checkpoints/{prefix}"))


def test_a_folder_in_a_bucket_is_a_checkpoint_while_it_has_a_seal(directory):
    save_steps(directory, [1, 2], keep_last=2)
    written = [generation for name, (_, generation, _) in OBJECTS.kept.items() if "/2/" in name]
    assert OBJECTS.kept["bucket/run/checkpoints/2/seal"][1] == max(written)
    assert set(saved_steps(directory)) == {1, 2}

    (directory / "2" / "seal").unlink()  # as if the save had been killed, or a removal
    assert names("2/")
    assert saved_steps(directory) == [1]
    assert load_metadata(directory) == {"config": {"seed": 1}}
    with Checkpoints(directory) as checkpoints:
        assert not names("2/")
        state, _ = checkpoints.restore(make_state())
        assert_same_bits(state, make_state(1))


def test_the_newest_is_found_before_lists_show_it(directory, monkeypatch):
    monkeypatch.setattr(OBJECTS, "lag", 1000.0)
    save_steps(directory, [7])
    assert saved_steps(directory) == [7]


def test_old_ones_are_removed_from_a_bucket(directory):
    save_steps(directory, [1, 2, 3, 4], keep_last=1, keep_every=2)
    assert set(saved_steps(directory)) == {2, 4}
    assert not names("1/") + names("3/")


def test_a_damaged_one_is_moved_within_a_bucket(directory):
    save_steps(directory, [1, 2])
    damaged = max(names("2/"), key=lambda name: len(OBJECTS.kept[name][0]))
    content = bytearray(OBJECTS.kept[damaged][0])
    content[len(content) // 2] ^= 1
    OBJECTS.put(damaged, content)
    files = [name.partition("/2/")[2] for name in names("2/")]
    with Checkpoints(directory) as checkpoints:
        _, metadata = checkpoints.restore(make_state())
    assert metadata == {"config": {"seed": 1}}
    aside = directory / "damaged" / "2"
    assert [str(file.relative_to(aside)) for file in files_below(aside)] == files
    assert not names("2/")


def test_several_processes_are_refused_where_orbax_cannot_write(directory, monkeypatch):
    monkeypatch.setattr("jax.process_count", lambda: 2)
    with pytest.raises(Exception, match="several processes cannot save to s3://"):
        Checkpoints(directory)
