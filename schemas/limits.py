"""Every bound of the system: its name, its sentence, and, below, its relation to the others.

Bytes, counts and microseconds are whole numbers; the unit is the last word of each name.
"""

from __future__ import annotations

from typing import Final

ID_MAX_CHARACTERS: Final = 200
"""An id (event, customer, tenant, session, ...) has 1 to 200 characters."""

EVENT_MAX_BYTES: Final = 256_000
"""A record of an input topic beyond this is a dead letter: an event is a fact, not a document."""

EVENT_MAX_DEPTH: Final = 32
"""Nesting of objects and arrays in an event; deeper input is an attack on the parser's stack."""

COUNT_MAX: Final = 10**15
"""The largest count (tokens, messages) an event may carry."""

NUMBER_MAX_CHARACTERS: Final = 1_000
"""The longest spelling of a number with a fraction or an exponent: what no sender writes, an attack may."""

NUMBER_MAX_EXPONENT: Final = 400
"""Such a number lies between 1e-400 and 1e401, so that every double is accepted and 1e999999999 is not computed."""

AMOUNT_MAX_NANOS: Final = 2**63 - 1
"""Charges and balances lie in +-AMOUNT_MAX_NANOS (9.2 thousand million major units), so that they fit Int64."""

QUANTITY_MAX_UNITS: Final = 2**63 - 1
"""Quantities lie in +-QUANTITY_MAX_UNITS whole units, so that their integral part fits Int64."""

INPUT_RECORD_MAX_BYTES: Final = 4 * 1024 * 1024
"""`max.message.bytes` of the input topics and of the catalogue's: what Kafka takes; what we accept is
EVENT_MAX_BYTES."""

DEAD_LETTER_RECORD_MAX_BYTES: Final = 5 * 1024 * 1024
"""`max.message.bytes` of the dead letter topics: an original of any size that an input takes, and its headers."""

LEDGER_RECORD_MAX_BYTES: Final = 900_000
"""A ledger record, encoded and not compressed; a decided batch has as many records as it needs."""

LEDGER_CHUNK_MAX_BYTES: Final = 850_000
"""A chunk of a batch ends before the event with which its record, estimated from above, would be larger."""

LEDGER_BATCH_MAX_BYTES: Final = 2 * 1024 * 1024
"""`max.message.bytes` of the ledger: a producer's batch, which holds at least one record."""

ACCOUNT_MAX_BYTES: Final = 300_000
"""An account's packed values, with two thousand open allocations of devices: a credit, a counter or an allocation that
would make them larger is refused. They travel whole in every ledger record that changes them."""

BLOCK_MAX_ENTRIES: Final = 20_000
"""The sink's block closes at this many entries..."""

BLOCK_QUIET_ENTRIES: Final = 2_000
"""...or as soon as nothing more comes: the last rows of a burst wait for nothing. Since the last block that a record of
its own closed there must have been so many entries, or a trickle would be all small blocks..."""

BLOCK_MAX_AGE_MICROSECONDS: Final = 1_000_000
"""...or at this age: a row is visible within a second or two, and small blocks are what costs ClickHouse."""

DETAIL_MAX_CHARACTERS: Final = 1_000
"""The readable detail of a dead letter is cut here: it may quote the input."""

BATCH_MAX_ENTRIES: Final = 1_000
"""Events in one HTTP batch; more is 413."""

BODY_MAX_BYTES: Final = 8 * 1024 * 1024
"""An HTTP body; more is 413."""

CATALOG_MAX_BYTES: Final = BODY_MAX_BYTES
"""A catalogue as text, and the canonical form that a version is compressed from: what the price list of every language
model there is takes three times over, and a body can bring."""

CATALOG_PLAIN_MAX_BYTES: Final = 256 * 1024
"""The canonical form of a catalogue up to which its version is a record that people can read; beyond it is
compressed."""

assert EVENT_MAX_BYTES + ACCOUNT_MAX_BYTES < LEDGER_CHUNK_MAX_BYTES < LEDGER_RECORD_MAX_BYTES
assert LEDGER_RECORD_MAX_BYTES < LEDGER_BATCH_MAX_BYTES
assert EVENT_MAX_BYTES < INPUT_RECORD_MAX_BYTES < DEAD_LETTER_RECORD_MAX_BYTES
assert EVENT_MAX_BYTES < BODY_MAX_BYTES
assert CATALOG_PLAIN_MAX_BYTES < INPUT_RECORD_MAX_BYTES
assert CATALOG_MAX_BYTES <= BODY_MAX_BYTES
