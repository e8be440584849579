"""Every candidate in the order of the knobs' choices, the last knob turning fastest."""

from __future__ import annotations

import itertools

from search.proposing import Proposer, Seen
from search.samplers import Setting
from search.space import Candidate

__all__ = ["Grid", "make"]


class Grid(Proposer):
    """The first untried candidate."""

    def propose(self, seen: Seen, number: int) -> Candidate:
        """The first untried candidate."""
        space = self.setting.space
        for choices in itertools.product(*(knob.choices for knob in space.knobs)):
            candidate = Candidate(dict(zip((k.name for k in space.knobs), choices, strict=True)))
            if candidate not in seen.taken and candidate in space:
                return candidate
        return self.untaken(seen.taken, self.random(number))


def make(setting: Setting) -> Grid:
    """The sampler for a setting."""
    return Grid(setting)
