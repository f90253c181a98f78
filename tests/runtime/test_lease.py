import json
import threading
import time

import bucket
import pytest

from swav_jax.runtime import lease as lease_lib
from swav_jax.runtime.lease import lease
from swav_jax.runtime.storage import located


@pytest.fixture
def path(monkeypatch):
    for name, seconds in (("RENEW", 0.02), ("LOOK", 0.05), ("STALE", 0.3)):
        monkeypatch.setattr(lease_lib, f"{name}_SECONDS", seconds)
    with bucket.served(monkeypatch):
        yield located("gs://bucket/run/.lock")


def of_another(path, **owner):
    path.write_text(json.dumps({"host": "far", "pid": 7, "token": "other", **owner}))


def test_it_names_its_owner_and_ends_with_it(path):
    with lease(path):
        first = json.loads(path.read_text())
        time.sleep(0.2)
        assert json.loads(path.read_text())["time"] > first["time"]  # renewed
        owner = f"process {first['pid']} on {first['host']}"
        with pytest.raises(BlockingIOError, match=owner), lease(path):
            pass
    assert not path.exists()


def test_what_nobody_renews_is_taken_over_with_a_line(path, caplog):
    of_another(path)
    with lease(path):
        assert json.loads(path.read_text())["token"] != "other"
    assert "process 7 on far, which has ended: taken over" in caplog.text


@pytest.fixture
def renewed(path):
    """The end of another process, which renews its lease until then and gives it back."""
    ended = threading.Event()

    def renew():
        number = 0
        while not ended.wait(0.02):
            of_another(path, time=(number := number + 1))
        path.unlink()

    of_another(path)
    renewing = threading.Thread(target=renew)
    renewing.start()
    yield ended
    ended.set()
    renewing.join()


def test_one_that_a_living_process_renews_is_refused(path, renewed):
    with pytest.raises(BlockingIOError, match="process 7 on far"), lease(path):
        pass


def test_who_waits_for_a_living_process_gets_it_when_that_is_done(path, renewed):
    threading.Timer(0.5, renewed.set).start()  # longer than a dead process is waited for
    with lease(path, wait=True):
        assert renewed.is_set() and json.loads(path.read_text())["token"] != "other"


def test_of_two_that_take_over_at_once_one_stays(path):
    of_another(path)
    held, refused = [], []

    def take():
        try:
            with lease(path):
                held.append(1)
                time.sleep(1)
        except BlockingIOError as error:
            refused.append(str(error))

    both = [threading.Thread(target=take) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert (len(held), len(refused)) == (1, 1)


def test_who_loses_it_ends(path, monkeypatch, capsys):
    gone = threading.Event()
    monkeypatch.setattr(lease_lib.os, "_exit", lambda code: gone.set())
    with lease(path):
        of_another(path)
        assert gone.wait(5)
    assert "process 7 on far has taken over gs://bucket/run" in capsys.readouterr().err
    assert json.loads(path.read_text())["token"] == "other"


def test_a_bucket_that_cannot_be_written_to_is_named(path, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise RuntimeError("403: no permission")

    monkeypatch.setattr(bucket.Bucket, "pipe_file", refuse)
    with (
        pytest.raises(OSError, match="gs://bucket/run cannot be written to: RuntimeError: 403"),
        lease(path),
    ):
        pass
