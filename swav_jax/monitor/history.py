"""The metrics of a run so far, as many as the rules need: their number does not grow with the run.

Every logged line is judged, so a line must cost the same after a million others as after ten.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter

Line = Mapping[str, float]  # what was logged after a step: `step` and metrics by name

VITAL = ("loss", "gradient_norm")  # other metrics may be undefined for good reasons
FEW, RECENT = 4, 10  # lines: fewer than FEW may be an accident; RECENT ones show the present state


class History:
    """The recent lines with any metrics, and the few older ones that matter.

    Args:
      lines: in the order of their steps.

    Attributes:
      last: the newest line, if there is one.
      names: of all metrics that were ever logged.
      first_bad: the first line with a VITAL metric that is not finite, if there is one.
      best: the FEW consecutive lines with the least mean loss; empty until 2 FEW lines follow them.
      before_queue: the last RECENT lines with a loss and the queue not in use.
      with_queue: the last RECENT lines with a loss and the queue in use.
      queue_began: the first of these, if there is one.
    """

    def __init__(self, lines: Iterable[Line] = ()) -> None:
        self.last: Line | None = None
        self.names: set[str] = set()
        self.first_bad: Line | None = None
        self.best: Sequence[Line] = ()
        self.before_queue: deque[Line] = deque(maxlen=RECENT)
        self.with_queue: deque[Line] = deque(maxlen=RECENT)
        self.queue_began: Line | None = None
        self._losses: deque[Line] = deque(maxlen=3 * FEW)
        # Lines with the same metrics are of one kind; a run has two or three kinds.
        self._kinds: dict[frozenset[str], deque[tuple[int, Line]]] = {}
        self._count = 0
        for line in lines:
            self.add(line)

    def add(self, line: Line) -> None:
        """Adds the next line; metrics that are not finite only count as logged."""
        self.names |= line.keys()
        bad = [name for name in VITAL if not math.isfinite(line.get(name, 0.0))]
        self.first_bad = self.first_bad or (line if bad else None)

        line = {name: value for name, value in line.items() if math.isfinite(value)}
        self.last = line
        self._count += 1
        kind = self._kinds.setdefault(frozenset(line), deque(maxlen=RECENT + 1))
        kind.append((self._count, line))
        if "loss" in line:
            self._losses.append(line)
            self._compare_with_best()
        if "loss" in line and "queue_used" in line:
            (self.with_queue if line["queue_used"] else self.before_queue).append(line)
        if self.with_queue:
            self.queue_began = self.queue_began or self.with_queue[0]

    def _compare_with_best(self) -> None:
        if len(self._losses) < 3 * FEW:
            return
        oldest = list(self._losses)[:FEW]  # 2 FEW lines follow them
        if not self.best or mean(oldest, "loss") < mean(self.best, "loss"):
            self.best = oldest

    def recent(self, *names: str) -> list[Line]:
        """The last RECENT + 1 lines that hold all of these metrics, finite."""
        kinds = (lines for kind, lines in self._kinds.items() if kind.issuperset(names))
        ordered = sorted((line for lines in kinds for line in lines), key=itemgetter(0))
        return [line for _, line in ordered[-RECENT - 1 :]]


def mean(lines: Sequence[Line], name: str) -> float:
    """The mean of one metric over some lines; 0 over none."""
    return sum(line[name] for line in lines) / max(len(lines), 1)
