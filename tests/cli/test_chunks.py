"""Appends of a bounded size, whatever the events' sizes are."""

from snowledger.chunks import CHUNK_BYTES, CHUNK_EVENTS, chunks


def cut(sizes: list[int]) -> list[list[int]]:
    return list(chunks(sizes, lambda size: size))


def test_chunks_keep_the_order_and_both_limits() -> None:
    sizes = [CHUNK_BYTES // 3] * 7 + [1] * 2500 + [CHUNK_BYTES] + [2 * CHUNK_BYTES] + [1]
    found = cut(sizes)
    assert [size for chunk in found for size in chunk] == sizes
    assert all(len(chunk) <= CHUNK_EVENTS for chunk in found)
    assert all(sum(chunk) <= CHUNK_BYTES for chunk in found if len(chunk) > 1)
    assert len(found) == 8


def test_of_nothing_there_is_no_chunk() -> None:
    assert cut([]) == []
