"""How often each part of a compiled program runs: XLA's own counts take the body of a loop once.

Parts of a batch (`train.accumulate`) and rounds of colour jitter are such loops.
"""

import re
from collections import Counter
from collections.abc import Iterator

import jax

# The costs of a piece of a program have no public interface; `_hlo` has no types either.
from jaxlib import _hlo, _jax  # type: ignore[attr-defined]

# "%body.1 (p: f32[8]) -> f32[8] {" begins a computation. Those that it calls stand before it.
HEAD = re.compile(r"(?P<entry>ENTRY )?%?(?P<name>[\w.-]+) \(.*\{$")
# Computations are named in many attributes, such as `body=%body.1`; the one here names operations.
CALLS = re.compile(r"(?<!control-predecessors)=(\{%[^}]*\}|%[\w.-]+)")
LOOP = re.compile(r" while\(.*condition=%?(?P<condition>[\w.-]+), body=%?(?P<body>[\w.-]+)")
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
BOUND = re.compile(r"= s32\[\]\S* constant\((\d+)\)")


def operations(program: str) -> Iterator[tuple[str, int]]:
    """The operations of a program's text, each with the number of times that it runs.

    Args:
      program: of `jax.stages.Compiled.as_text`. A loop without a constant bound counts once.
    """
    found = _computations(program)
    runs = _runs(found)
    for name, body in found.items():
        for line in body:
            yield line, runs[name]


def share_repeated(program: str, cost: str) -> float:
    """What the later rounds of all loops cost, relative to the program with one round of each.

    Args:
      program: of `jax.stages.Compiled.as_text`.
      cost: a key of `jax.stages.Compiled.cost_analysis`, such as "flops".
    """
    found = _computations(program)
    runs = _runs(found)
    more = 0.0
    for name, body in found.items():
        for line in body:
            loop = LOOP.search(line)
            if loop and (rounds := _trips(found, line) - 1) and runs[name]:
                more += rounds * runs[name] * _cost(found, loop["body"], cost)
    return more / _cost(found, list(found)[-1], cost) if more else 0.0


def cost_by_text(program: str, cost: str) -> float:
    """What a program costs, with all rounds of its loops, where its compiler has no count of it.

    Calls of a library, such as cuDNN's convolutions, count nothing.

    Args:
      program: of `jax.stages.Compiled.as_text`, for any platform.
      cost: a key of `jax.stages.Compiled.cost_analysis`, such as "bytes accessed".
    """
    found = _computations(program)
    return _cost(found, list(found)[-1], cost) * (1 + share_repeated(program, cost))


def _computations(program: str) -> dict[str, list[str]]:
    """The lines of each computation by its name, the head first and the entry last."""
    found: dict[str, list[str]] = {}
    name, entry = "", ""
    for line in program.splitlines():
        if head := HEAD.match(line):
            name = head["name"]
            entry = name if head["entry"] else entry
            found[name] = [line.removeprefix("ENTRY ")]
        elif line.startswith(" ") and name:
            found[name].append(line)
    if entry:
        found[entry] = found.pop(entry)
    return found


def _called(line: str) -> list[str]:
    return [name for names in CALLS.findall(line) for name in re.findall(r"%([\w.-]+)", names)]


def _trips(found: dict[str, list[str]], line: str) -> int:
    """The rounds of the loop on a line: `lax.scan` counts from 0 to a constant."""
    if known := TRIPS.search(line):
        return int(known[1])
    loop = LOOP.search(line)
    bounds = BOUND.findall("\n".join(found[loop["condition"]])) if loop else []
    return int(bounds[0]) if len(bounds) == 1 else 1


def _runs(found: dict[str, list[str]]) -> Counter[str]:
    runs = Counter(list(found)[-1:])
    for name in reversed(found):
        for line in found[name]:
            loop = LOOP.search(line)
            rounds = _trips(found, line) if loop else 1
            for called in _called(line):
                runs[called] += runs[name] * rounds
    return runs


def _cost(found: dict[str, list[str]], name: str, cost: str) -> float:
    """Of one run of a computation, with one round of each loop in it."""
    needed = {name}
    for caller in reversed(found):
        if caller in needed:
            needed.update(called for line in found[caller] for called in _called(line))
    # The frames of the source are listed in the head of the program, which a piece does not have.
    text = [
        ("ENTRY " if other == name else "") + "\n".join([*found[other], "}"])
        for other in found
        if other in needed
    ]
    piece = re.sub(r" stack_frame_id=\d+", "", "\n\n".join(["HloModule piece", *text]))
    module = _hlo.hlo_module_from_text(piece)
    return float(_jax.hlo_module_cost_analysis(jax.devices()[0].client, module)[cost])
