"""Random candidates, none twice."""

from __future__ import annotations

from search.proposing import Proposer, Seen
from search.samplers import Setting
from search.space import Candidate

__all__ = ["Random", "make"]


class Random(Proposer):
    """Any untried candidate, all equally likely."""

    def propose(self, seen: Seen, number: int) -> Candidate:
        """Any untried candidate."""
        return self.untaken(seen.taken, self.random(number))


def make(setting: Setting) -> Random:
    """The sampler for a setting."""
    return Random(setting)
