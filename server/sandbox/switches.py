"""Faults that are switched on and off while the sandbox runs: `counterpart=fault`, kept in a file of its folder.

The file is looked at in each exchange, so that another process (`relais sandbox-fault`) can change it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from relais.cda.errors import Issue, RelaisError
from relais.server.sandbox.faults import Faults
from relais.server.sandbox.files import write_whole
from relais.server.sandbox.hl7v2_platform import PlatformFault
from relais.server.sandbox.imap_server import ImapFault
from relais.server.sandbox.mail_server import MailFault
from relais.server.sandbox.service_faults import (
    EXISTENCE_FAULTS,
    QUERY_FAULTS,
    RETRIEVE_FAULTS,
    UPDATE_FAULTS,
    ServiceFault,
)
from relais.server.sandbox.xds_server import RepositoryFault

NONE = "none"
FILE = "faults.json"
_RULE = "sandbox fault"


class _Counterpart(NamedTuple):
    """What one counterpart can do wrong, and what the usual words mean there."""

    faults: Iterable[enum.Enum]
    words: Mapping[str, enum.Enum]

    def named(self) -> dict[str, enum.Enum]:
        """Every fault by name: the usual words, then its own (`silent-after`)."""
        return {**self.words, **{fault.name.lower().replace("_", "-"): fault for fault in self.faults}}


def _service(faults: Iterable[ServiceFault], wrong: ServiceFault) -> _Counterpart:
    """A service of the DMP beside ITI-41."""
    usual = {
        "slow": ServiceFault.SLOW,
        "refuse": ServiceFault.BUSY,
        "drop": ServiceFault.DROPPED_AFTER,
        "duplicate": ServiceFault.TWICE,
    }
    return _Counterpart(faults, {**usual, "wrong": wrong})


COUNTERPARTS: Mapping[str, _Counterpart] = {
    "dmp": _Counterpart(
        RepositoryFault,
        {
            "slow": RepositoryFault.SLOW,
            "refuse": RepositoryFault.BUSY,
            "drop": RepositoryFault.DROPPED_AFTER,
            "duplicate": RepositoryFault.DUPLICATE,
            "wrong": RepositoryFault.WRONG_RELATION,
        },
    ),
    "dmp-registry": _service(QUERY_FAULTS, ServiceFault.BLIND),
    "dmp-retrieve": _service(RETRIEVE_FAULTS, ServiceFault.OTHER_BYTES),
    "dmp-update": _service(UPDATE_FAULTS, ServiceFault.WRONG_RELATION),
    "dmp-patients": _service(EXISTENCE_FAULTS, ServiceFault.OTHER_PATIENT),
    "smtp": _Counterpart(
        MailFault,
        {
            "slow": MailFault.SLOW,
            "refuse": MailFault.BUSY,
            "drop": MailFault.CUT_AFTER_DATA,
            "duplicate": MailFault.TWICE,
            "wrong": MailFault.NONSENSE,
        },
    ),
    "imap": _Counterpart(
        ImapFault,
        {
            "slow": ImapFault.SLOW,
            "refuse": ImapFault.REFUSE_LOGIN,
            "drop": ImapFault.CUT_IN_FETCH,
            "duplicate": ImapFault.TWICE,
            "wrong": ImapFault.NONSENSE,
        },
    ),
    "hl7v2": _Counterpart(
        PlatformFault,
        {
            "slow": PlatformFault.SLOW,
            "refuse": PlatformFault.REFUSES,
            "drop": PlatformFault.CUT_AFTER,
            "duplicate": PlatformFault.ACK_TWICE,
            "wrong": PlatformFault.OTHER_ID,
        },
    ),
}


class Switches:
    """The faults that stand in the sandbox of that folder, whichever process plays it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._last: tuple[tuple[int, int, int], dict[str, str]] = (0, 0, 0), {}
        """What tells one file from the next, and what it says."""

    def set(self, asked: Iterable[str], *, anew: bool = False) -> dict[str, str]:
        """Switch to each `counterpart=fault` (`none`: no more), besides what stands unless `anew`; what stands then.

        Raises RelaisError, with the list of names, for one that there is not; nothing is changed then.
        """
        wanted = {} if anew else self._read()
        for one in asked:
            counterpart, fault = _parsed(one)
            wanted[counterpart] = fault
        standing = {counterpart: fault for counterpart, fault in wanted.items() if fault != NONE}
        write_whole(self._path, msgspec.json.encode(standing))
        return standing

    def lead(self, counterpart: str, faults: Faults[Any]) -> None:
        """Let the file say which fault of a counterpart stands."""
        faults.standing = partial(self._standing, counterpart)

    def _standing(self, counterpart: str) -> enum.Enum | None:
        fault = self._read().get(counterpart)
        return COUNTERPARTS[counterpart].named().get(fault) if fault else None

    def _read(self) -> dict[str, str]:
        try:
            found = self._path.stat()
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)  # every change is a new file
            if seen != self._last[0]:
                self._last = seen, msgspec.json.decode(self._path.read_bytes(), type=dict[str, str])
        except FileNotFoundError:
            return {}
        except msgspec.MsgspecError as error:
            message = f"{FILE} is not what relais sandbox-fault writes"
            raise RelaisError(Issue("fatal", "structure", message, rule=_RULE)) from error
        return self._last[1].copy()


def _parsed(asked: str) -> tuple[str, str]:
    counterpart, separator, fault = asked.partition("=")
    if not separator or counterpart not in COUNTERPARTS:
        raise _unknown(f"write counterpart=fault; counterparts: {', '.join(COUNTERPARTS)}")
    known = [NONE, *COUNTERPARTS[counterpart].named()]
    if fault not in known:
        raise _unknown(f"{counterpart} has no such fault; it has {', '.join(known)}")
    return counterpart, fault


def _unknown(message: str) -> RelaisError:
    return RelaisError(Issue("fatal", "code-invalid", message, "fault", _RULE))
