import jax
import numpy as np

from swav_jax.trees import map_named, named_leaves

TREE = {"params": {"conv1": {"kernel": np.ones(2)}}, "opt_state": [(np.zeros(1),), {"mu": None}]}


def test_leaves_have_the_names_of_their_path_in_the_order_of_the_leaves():
    named = named_leaves(TREE)
    assert list(named) == ["opt_state/0/0", "params/conv1/kernel"]
    assert all(a is b for a, b in zip(named.values(), jax.tree.leaves(TREE), strict=True))


def test_a_function_sees_the_name_of_each_leaf():
    shapes = map_named(lambda name, leaf: (name, leaf.shape), TREE)
    assert shapes["params"]["conv1"]["kernel"] == ("params/conv1/kernel", (2,))
    assert shapes["opt_state"] == [(("opt_state/0/0", (1,)),), {"mu": None}]
