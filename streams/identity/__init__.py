"""Which identities a partition has booked, and with which content: a projection of the ledger on the worker's disk."""

from streams.identity.index import IdentityIndex
from streams.identity.limits import Limits, Size
from streams.identity.manifest import Position

__all__ = ["IdentityIndex", "Limits", "Position", "Size"]
