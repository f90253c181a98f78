import subprocess
import sys

PAGES_OF_A_SECOND_ARRAY = """
import resource
import numpy as np
from swav_jax.runtime.xla import reuse_freed_memory

reuse_freed_memory()
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(16_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_freed_memory_is_used_again():
    run = [sys.executable, "-c", PAGES_OF_A_SECOND_ARRAY]
    pages = subprocess.run(run, check=True, capture_output=True, text=True).stdout
    assert int(pages) < 100  # of the 31,250 that it has
