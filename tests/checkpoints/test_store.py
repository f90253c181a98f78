"""What is saved comes back to the bit on any devices, and what was damaged never comes back."""

import errno
import gc
import os
import shutil
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints.states import State, assert_same_bits, make_state, payload, save_steps
from jax.sharding import AxisType, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

from swav_jax.checkpoints.read import load_metadata, load_variables
from swav_jax.checkpoints.seal import leaf_digest
from swav_jax.checkpoints.store import CheckpointError, Checkpoints


def target_of(state, sharding=None):
    sharding = sharding or SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), state)


def folders(directory):
    return sorted(entry.name for entry in directory.iterdir())


def flip_bit(file, bit):
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


def test_every_dtype_comes_back_to_the_bit_with_its_metadata(tmp_path):
    state = make_state()
    metadata = {"config": {"data": {"crops": [[2, 32, 0.3, 1.0]]}}, "note": "é"}
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.restore(target_of(state)) is None
        checkpoints.save(12, state, metadata)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        restored, found = checkpoints.restore(target_of(state))
        assert checkpoints.latest_step == 12
    assert_same_bits(restored, state)
    assert isinstance(restored, State)
    assert found == metadata == load_metadata(tmp_path)


@pytest.mark.parametrize("devices", [1, 4, 8])
def test_sharded_state_comes_back_on_another_number_of_devices(tmp_path, devices):
    def mesh(count):
        return jax.make_mesh(
            (count,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:count]
        )

    values = {"rows": np.arange(64 * 6, dtype=np.float32).reshape(64, 6), "all": np.arange(5.0)}
    values = jax.tree.map(np.float32, values)
    spec = {"rows": P("data"), "all": P()}
    layout = {name: NamedSharding(mesh(8), spec[name]) for name in spec}
    wanted = {name: NamedSharding(mesh(devices), spec[name]) for name in spec}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, jax.device_put(values, layout), {})
        target = {
            name: jax.ShapeDtypeStruct(values[name].shape, np.float32, sharding=wanted[name])
            for name in values
        }
        restored, _ = checkpoints.restore(target)
    assert_same_bits(restored, values)
    assert {name: restored[name].sharding for name in wanted} == wanted


def test_state_may_be_donated_while_it_is_being_saved(tmp_path):
    step = jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    one = SingleDeviceSharding(jax.devices()[0])
    shardings = (one, NamedSharding(mesh, P()), NamedSharding(mesh, P("data")))
    for number, sharding in enumerate(shardings):
        state = {f"{i}": jax.device_put(np.zeros(2**18, np.float32), sharding) for i in range(8)}
        state = step(state)
        target = target_of(state, sharding)
        with Checkpoints(tmp_path / str(number)) as checkpoints:
            checkpoints.save(1, state, {})
            for _ in range(10):
                state = step(state)
            restored, _ = checkpoints.restore(target)
        restored = step(step(restored))
        assert all(float(leaf.min()) == float(leaf.max()) == 3 for leaf in restored.values())


def test_last_ones_and_every_mth_are_kept(tmp_path):
    save_steps(tmp_path, range(1, 11), keep_last=2, keep_every=4)
    assert folders(tmp_path) == ["10", "4", "8", "9"]
    with pytest.raises(ValueError, match="keep_last=0"):
        Checkpoints(tmp_path, keep_last=0)


def test_a_process_that_does_not_see_the_directory_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    with pytest.raises(CheckpointError, match=r"process 1 does not see .* disk that they share"):
        Checkpoints(tmp_path / "elsewhere")


def test_a_saved_step_is_left_as_it_is(tmp_path):
    save_steps(tmp_path, [1])
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, make_state(2), {})
    assert load_metadata(tmp_path) == {"config": {"seed": 1}}


def test_twenty_flipped_bits_are_noticed_twenty_times(tmp_path, caplog):
    whole = tmp_path / "whole"
    save_steps(whole, [1, 2])
    files = [file for file in sorted((whole / "2").rglob("*")) if file.is_file()]
    files = [file.relative_to(whole) for file in files if file.stat().st_size]
    rng = np.random.default_rng(0)
    for trial in range(20):  # in turn through all files, seal and indices among them
        run = tmp_path / f"run{trial}"
        shutil.copytree(whole, run)
        file = run / files[trial % len(files)]
        flip_bit(file, int(rng.integers(8 * file.stat().st_size)))
        caplog.clear()
        with Checkpoints(run) as checkpoints:
            restored, metadata = checkpoints.restore(target_of(make_state()))
        assert metadata == {"config": {"seed": 1}}, file
        assert_same_bits(restored, make_state(1))
        assert f"{run / '2'} is damaged" in caplog.text and file.name in caplog.text
        assert folders(run) == ["1", "damaged"] and folders(run / "damaged") == ["2"]


def truncate(folder):
    os.truncate(payload(folder), payload(folder).stat().st_size // 2)


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        empty,
        lambda folder: payload(folder / "state").unlink(),
        lambda folder: (folder / "seal").unlink(),
        lambda folder: (folder / "seal").write_bytes(b"\xff\x00"),
        lambda folder: (folder / "state" / "_METADATA").unlink(),
        lambda folder: shutil.rmtree(folder / "state" / "ocdbt.process_0"),
    ],
)
def test_incomplete_checkpoint_is_set_aside_and_the_one_before_is_used(tmp_path, damage):
    save_steps(tmp_path, [1, 2])
    damage(tmp_path / "2")
    with Checkpoints(tmp_path) as checkpoints:
        restored, _ = checkpoints.restore(target_of(make_state()))
        assert_same_bits(restored, make_state(1))
        # The same step comes again, and may be damaged again: nothing is overwritten.
        checkpoints.save(2, make_state(2), {})
        checkpoints.wait()
        (tmp_path / "2" / "seal").unlink()
        checkpoints.restore(target_of(make_state()))
    assert folders(tmp_path / "damaged") == ["2", "2-2"]


def test_wrong_leaf_behind_intact_files_is_noticed(tmp_path, monkeypatch):
    """As if the copy from the device had been wrong: only the leaves' digests can tell."""
    with monkeypatch.context() as patch:
        patch.setattr("swav_jax.checkpoints.store.leaf_digest", lambda leaf: leaf_digest(leaf) ^ 1)
        save_steps(tmp_path, [2])
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(CheckpointError, match="every check"):
        checkpoints.restore(target_of(make_state()))
    # Nor does the next start begin afresh in silence.
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(CheckpointError, match="damaged"):
        checkpoints.restore(target_of(make_state()))
    with pytest.raises(CheckpointError, match="leaves have other bits"):
        load_variables(tmp_path / "damaged" / "2")


def test_another_model_is_an_error_that_names_leaves_and_sets_nothing_aside(tmp_path):
    save_steps(tmp_path, [1])
    target = target_of(make_state())
    target.params["head"]["kernel"] = jax.ShapeDtypeStruct((16, 9), jnp.bfloat16)
    target.extra["bank"] = jax.ShapeDtypeStruct((4,), jnp.float32)
    del target.extra["queue"]
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(CheckpointError) as error:
        checkpoints.restore(target)
    message = str(error.value)
    assert "params/head/kernel: bfloat16[16, 8] saved, bfloat16[16, 9] expected" in message
    assert "extra/bank: nothing saved" in message and "3 leaves differ" in message

    def refuse(metadata):
        raise LookupError(metadata)  # says more than which leaves differ

    with Checkpoints(tmp_path) as checkpoints, pytest.raises(LookupError, match="'seed': 1"):
        checkpoints.restore(target, refuse)
    assert folders(tmp_path) == ["1"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small file system cannot be mounted here: {error}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("foreseen", [True, False])
def test_full_disk_is_a_clear_error_and_earlier_checkpoints_stay(small_disk, monkeypatch, foreseen):
    save_steps(small_disk / "checkpoints", [1])
    big = {"w": jnp.asarray(np.random.default_rng(0).random(2**21), jnp.float32)}
    if not foreseen:  # as if another program had filled the disk after we looked
        usage = shutil.disk_usage(small_disk)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2**40))
    with Checkpoints(small_disk / "checkpoints") as checkpoints:
        with pytest.raises(CheckpointError, match="No space left") as error:
            checkpoints.save(2, big, {})
            checkpoints.wait()
        assert "needs 8,388,608" in str(error.value) and str(small_disk) in str(error.value)
        assert folders(checkpoints.directory) == ["1"]
        restored, _ = checkpoints.restore(target_of(make_state()))
        assert_same_bits(restored, make_state(1))
        checkpoints.save(3, make_state(3), {})
    assert folders(small_disk / "checkpoints") == ["1", "3"]


def run_python(program, *arguments):
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "JAX_PLATFORMS": "cpu",
    }
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_kill_within_a_save_leaves_only_whole_checkpoints(tmp_path):
    program = """
        import sys
        import jax.numpy as jnp
        from swav_jax.checkpoints.store import Checkpoints
        with Checkpoints(sys.argv[1], keep_last=2) as checkpoints:
            restored = checkpoints.restore({"w": jnp.zeros(2**20), "step": jnp.int32(0)})
            step = int(restored[0]["step"]) if restored else 0
            print(step, flush=True)
            while True:
                step += 1
                state = {"w": jnp.full(2**20, float(step)), "step": jnp.int32(step)}
                checkpoints.save(step, state, {})
                print(step, flush=True)
    """
    rng, last, cut_off = np.random.default_rng(0), 0, 0
    for _ in range(4):
        with run_python(program, tmp_path) as process:
            start = int(process.stdout.readline())
            assert start >= last  # a step that was reported complete is not lost
            while (step := int(process.stdout.readline())) < start + 4:
                pass
            last = step - 1
            time.sleep(rng.uniform(0, 0.05))
            process.kill()
        cut_off += bool(list(tmp_path.glob("*.partial*")))
    assert cut_off > 0
    assert not (tmp_path / "damaged").exists()


@pytest.mark.slow
def test_two_processes_save_together_and_one_restores(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    program = """
        import sys
        import jax, numpy as np
        from pathlib import Path
        directory, port, process = sys.argv[1], sys.argv[2], int(sys.argv[3])
        jax.config.update("jax_num_cpu_devices", 4)
        jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=process)
        from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
        from swav_jax.checkpoints.read import load_variables
        from swav_jax.checkpoints.store import CheckpointError, Checkpoints
        mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
        rows = np.arange(64 * 5, dtype=np.float32).reshape(64, 5)
        def lay(value, spec):
            sharding = NamedSharding(mesh, spec)
            return jax.make_array_from_callback(value.shape, sharding, lambda i: value[i])
        state = {"rows": lay(rows, P("data")), "all": lay(rows[0], P())}
        with Checkpoints(directory) as checkpoints:
            for step in (1, 2):
                checkpoints.save(step, state, {"step": step})
            checkpoints.wait()
            if process == 0:
                (Path(directory) / "2" / "seal").unlink()
            restored, metadata = checkpoints.restore(state)
            assert metadata == {"step": 1}, metadata
            for shard in restored["rows"].addressable_shards:
                np.testing.assert_array_equal(shard.data, rows[shard.index])
            variables, _ = load_variables(directory, ["all"])
            np.testing.assert_array_equal(variables["all"], rows[0])
            # A failure in process 0 is an error in both.
            if process == 0:
                def fail(*_):
                    raise OSError("No space left on device")
                checkpoints._commit = fail
            checkpoints.save(3, state, {})
            try:
                checkpoints.wait()
            except CheckpointError as error:
                print("failed as it should:", error)
        print("done")
    """
    processes = [run_python(program, tmp_path, port, index) for index in range(2)]
    try:
        outputs = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert all("failed as it should" in output and "done" in output for output in outputs)
    assert "failed in process 0" in outputs[1]
    rows = jax.ShapeDtypeStruct((64, 5), jnp.float32)
    with Checkpoints(tmp_path) as checkpoints:
        target = {"rows": rows, "all": jax.ShapeDtypeStruct((5,), jnp.float32)}
        restored, _ = checkpoints.restore(target)
    np.testing.assert_array_equal(restored["rows"], np.arange(64 * 5.0).reshape(64, 5))
    assert folders(tmp_path) == ["1", "damaged"]


def test_a_file_system_that_renames_no_folders_is_refused_at_the_start(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EMFILE, "Too many open files")  # as gcsfuse does by default

    monkeypatch.setattr("pathlib.Path.rename", fail)
    with pytest.raises(CheckpointError, match=r"cannot be renamed .* --rename-dir-limit"):
        Checkpoints(tmp_path)
    assert not any(tmp_path.iterdir())


# Orbax leaves the reads that fail to the garbage collector, where Python reports them.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_save_that_orbax_could_not_read_is_no_checkpoint(tmp_path):
    # Orbax takes the brackets for a pattern, and writes an empty index.
    checkpoints = Checkpoints(tmp_path / "run[1]")
    checkpoints.save(1, {"a": jnp.ones(3), "b": jnp.zeros((2, 2))}, {})
    with pytest.raises(CheckpointError, match="2 of 2 arrays cannot be found"):
        checkpoints.close()
    assert not any((tmp_path / "run[1]").iterdir())
    gc.collect()  # here, and not within another test
