from swav_jax.data.sources import cache


def test_data_are_kept_by_key(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.load("a") is None
    cache.save("a", b"1")
    cache.save("b", b"2")
    cache.save("a", b"3")
    assert (cache.load("a"), cache.load("b"), cache.load("c")) == (b"3", b"2", None)
    assert len(list((tmp_path / "swav_jax").iterdir())) == 2


def test_who_cannot_write_does_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    cache.save("a", b"1")
    assert cache.load("a") is None
