from swav_jax.ops.chunks import even_chunk


def test_chunks_are_as_large_as_they_can_be():
    assert even_chunk(161_280, 5592) == 5376
    assert even_chunk(25, 1000) == 25
    assert even_chunk(29, 28) == 1
