"""Arrays of whole batches, which several threads fill by the row and whose memory is used again."""

import math
import threading
import weakref
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

ALIGNMENT = 64  # bytes; JAX copies an array that begins elsewhere, where it need not on a CPU

Shape = tuple[int, ...]


class BatchArrays:
    """uint8 arrays of some shapes for each step, all with as many rows as a batch has.

    The system clears fresh memory first, which takes about as long as to fill it. So an array's
    memory is used for a later step as soon as nobody holds the array or a part of it.
    """

    def __init__(self, shapes: Sequence[Shape]):
        self._shapes = shapes
        self._begun: dict[int, list[np.ndarray]] = {}
        self._unused: dict[Shape, list[memoryview]] = {shape: [] for shape in shapes}
        self._lock = threading.Lock()

    def rows(self, first: int, count: int) -> list[UInt8[np.ndarray, "..."]]:
        """Some rows of one batch, to be filled; they hold anything before.

        Args:
          first: of these rows, among those of all batches from step 0 on.
          count: of rows.
        """
        step, first = divmod(first, self._shapes[0][0])
        with self._lock:
            if step not in self._begun:
                self._begun[step] = [self._array(shape) for shape in self._shapes]
            return [array[first : first + count] for array in self._begun[step]]

    def take(self, step: int) -> list[UInt8[np.ndarray, "..."]]:
        """The arrays of a step, when all their rows have been filled; they are the caller's."""
        with self._lock:
            return self._begun.pop(step)

    def _array(self, shape: Shape) -> UInt8[np.ndarray, "..."]:
        unused = self._unused[shape]
        memory = unused.pop() if unused else _aligned(math.prod(shape))
        # Of memory that NumPy does not own, all later views refer to this first array.
        array = np.frombuffer(memory, np.uint8)
        weakref.finalize(array, unused.append, memory).atexit = False
        return array.reshape(shape)


def _aligned(size: int) -> memoryview:
    memory = np.empty(size + ALIGNMENT, np.uint8)
    begin = -memory.ctypes.data % ALIGNMENT
    return memory[begin : begin + size].data
