from swav_jax.data.unreadable import replacement_step


def test_replacements_visit_every_image():
    for size in (1, 2, 3, 5, 10, 64, 1797):
        step = replacement_step(size)
        assert len({k * step % size for k in range(size)}) == size
