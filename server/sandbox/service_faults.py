"""What the services of the sandbox DMP beside ITI-41 can do wrong: look up, read, change, existence test.

The words are the same for all of them; each has those that mean something there.
"""

from __future__ import annotations

import enum


class ServiceFault(enum.Enum):
    """What a service can do wrong, and whether it does what was asked for when it does."""

    SLOW = "done, the answer comes late"
    BUSY = "refused for now, nothing done"
    UNAVAILABLE = "HTTP 503, nothing done"
    DROPPED_AFTER = "done, the connection is cut"
    WRONG_RELATION = "done, an answer to another message"
    TWICE = "what is found is told twice; a change is made twice, and the answer is that to the second"
    BLIND = "success without what was asked for"
    OTHER_BYTES = "the documents with a byte changed"
    OTHER_PATIENT = "an answer about another patient"


_COMMON = (
    ServiceFault.SLOW,
    ServiceFault.BUSY,
    ServiceFault.UNAVAILABLE,
    ServiceFault.DROPPED_AFTER,
    ServiceFault.WRONG_RELATION,
    ServiceFault.TWICE,
)
QUERY_FAULTS = (*_COMMON, ServiceFault.BLIND)
"""Of ITI-18."""
RETRIEVE_FAULTS = (*_COMMON, ServiceFault.BLIND, ServiceFault.OTHER_BYTES)
"""Of ITI-43."""
UPDATE_FAULTS = (*_COMMON, ServiceFault.BLIND)
"""Of ITI-57; a change that is told and not made is `BLIND`."""
EXISTENCE_FAULTS = (*_COMMON, ServiceFault.BLIND, ServiceFault.OTHER_PATIENT)
"""Of TD0.2."""
