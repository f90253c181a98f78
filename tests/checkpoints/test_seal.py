import bucket
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from swav_jax.checkpoints import seal
from swav_jax.checkpoints.seal import leaf_digest, write_seal, wrong_files
from swav_jax.runtime.storage import located


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "bool", "uint32", "float16"])
def test_digest_sees_bits_and_places_but_no_layout(dtype):
    rng = np.random.default_rng(0)
    values = jnp.asarray(rng.integers(0, 2, (64, 3)), dtype)
    digest = int(leaf_digest(values))
    changed = np.array(values)
    for flat in range(0, 192, 17):
        changed.view(np.uint8).reshape(192, -1)[flat, 0] ^= 1
        assert int(leaf_digest(jnp.asarray(changed))) != digest
        changed.view(np.uint8).reshape(192, -1)[flat, 0] ^= 1
    assert int(leaf_digest(values[::-1])) != digest
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    for spec in (P(), P("data")):
        assert int(leaf_digest(jax.device_put(values, NamedSharding(mesh, spec)))) == digest


def test_digest_is_what_its_equation_says(x64):
    def mix(h):
        h = (h ^ h >> 16) * 0x85EBCA6B % 2**32
        h = (h ^ h >> 13) * 0xC2B2AE35 % 2**32
        return h ^ h >> 16

    for values in (np.float32([[1, -2, 3], [4, 5, 6]]), np.float64([[0.1], [-0.0], [1e300]])):
        words = values.reshape(-1).view(np.uint32).tolist()
        expected = sum(mix(word ^ mix(place)) for place, word in enumerate(words)) % 2**32
        assert int(leaf_digest(jnp.asarray(values))) == expected


def test_an_error_of_the_network_is_no_damage_and_one_of_the_disk_is(tmp_path, monkeypatch):
    def fails(file):
        raise OSError("it took too long")

    with bucket.served(monkeypatch):
        folders = {place: located(place) for place in (str(tmp_path), "gs://bucket/run")}
        for folder in folders.values():
            (folder / "array").write_text("numbers")
            write_seal(folder, {"leaves": {}, "files": seal.file_digests(folder)})
            assert wrong_files(folder) == ""
        monkeypatch.setattr(seal, "_file_digest", fails)
        assert wrong_files(folders[str(tmp_path)]) == "it took too long"
        with pytest.raises(OSError, match="it took too long"):
            wrong_files(folders["gs://bucket/run"])
