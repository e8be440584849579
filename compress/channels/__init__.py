"""Channels that can leave a network: which go together, which must stay, which matter least, and the cut."""
