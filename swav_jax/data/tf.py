"""TensorFlow, imported so that it reads images on the host and does nothing else.

It does not take the accelerators, which belong to JAX, writes nothing to the terminal, and loads
Keras only when a user asks for it. A TensorFlow that the user has started before keeps its devices:
tf.data computes on the CPU in any case. Other modules import `tf` from here.
"""

import contextlib
import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any


@contextlib.contextmanager
def _without_greetings() -> Iterator[None]:
    """Drops what C++ writes to stderr whatever the log level is; exceptions still pass."""
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)


@contextlib.contextmanager
def _without_keras() -> Iterator[None]:
    """Leaves out Keras 3, a third of TensorFlow's start; `tf.keras` still loads it."""
    name = "TF_USE_LEGACY_KERAS"
    if name in os.environ:
        yield
        return
    os.environ[name] = "1"
    try:
        yield
    finally:
        del os.environ[name]


with _without_greetings(), _without_keras():
    import tensorflow as tf

    with contextlib.suppress(RuntimeError):  # it has started with other devices
        for kind in ("GPU", "TPU"):
            tf.config.set_visible_devices([], kind)

# For functions that tf.data calls: they have no Python control flow that AutoGraph could rewrite,
# and on Python 3.13 it warns that it cannot.
as_written = tf.autograph.experimental.do_not_convert

_called: weakref.WeakKeyDictionary[tf.Graph, list[Callable]] = weakref.WeakKeyDictionary()


def python_function(
    function: Callable[..., Any],
    inputs: Sequence[tf.Tensor],
    dtype: tf.DType,
    *,
    stateful: bool = True,
) -> tf.Tensor:
    """`tf.numpy_function` whose function lives as long as the data set that calls it.

    TensorFlow itself keeps it, and all that it refers to, until the process ends: each new pipeline
    would cost its arrays.
    """
    alive = weakref.ref(function)

    def call(*arrays: Any) -> Any:
        function = alive()
        assert function is not None  # the graph that calls this has it
        return function(*arrays)

    if not tf.executing_eagerly():
        graph = tf.compat.v1.get_default_graph()
        # The outermost but the process's own: those of branches end before they are run.
        while hasattr(graph.outer_graph, "outer_graph"):
            graph = graph.outer_graph
        _called.setdefault(graph, []).append(function)
    return tf.numpy_function(call, inputs, dtype, stateful=stateful)
