"""Postfix and Dovecot for tests: private instances on free ports under mutual TLS, stopped and removed at the end."""

from __future__ import annotations

import os
import pwd
import shutil
import smtplib
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relais.server.sandbox.authority import Authority
from relais.server.settings import Settings

SENDER = "plateforme@relais.mssante.fr"
BOUNCING = "parti@cabinet.mssante.fr"
"""A mailbox that Postfix takes mails for, and bounces them."""

_MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/postfix.log
maillog_file_prefixes = {folder}
mail_owner = postfix
myhostname = smtp.mssante.fr
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
alias_maps =
default_database_type = hash
message_size_limit = 10000000
virtual_mailbox_domains = relais.mssante.fr, ssiad.mssante.fr, cabinet.mssante.fr
virtual_mailbox_base = {folder}/mail
virtual_mailbox_maps = inline:{{ {mailboxes} }}
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_mailbox_limit = 0
virtual_alias_maps = inline:{{ {bouncing}=parti@ailleurs.example }}
default_transport = error:5.1.1_mailbox_gone
smtpd_tls_security_level = encrypt
smtpd_tls_chain_files = {folder}/server.pem
smtpd_tls_CAfile = {folder}/ca.pem
smtpd_tls_req_ccert = yes
smtpd_tls_session_cache_database =
bounce_queue_lifetime = 0
"""
_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
"""
_DOVECOT = """\
base_dir = {folder}/dovecot
state_dir = {folder}/dovecot-state
log_path = {folder}/dovecot.log
protocols = imap
listen = 127.0.0.1
ssl = required
ssl_cert = <{folder}/server.pem
ssl_key = <{folder}/server.pem
ssl_ca = <{folder}/ca-and-crl.pem
ssl_verify_client_cert = yes
auth_ssl_require_client_cert = yes
auth_mechanisms = external
auth_ssl_username_from_cert = yes
mail_location = maildir:~/Maildir
first_valid_uid = 1
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={folder}/mail/%d/%n
}}
namespace inbox {{
  inbox = yes
}}
service imap-login {{
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
"""


class ServersUnavailableError(Exception):
    """They cannot be started here; the message says why."""


@dataclass(frozen=True, slots=True)
class MailServers:
    """Where they listen, and what a client needs; `folder` has their logs and the Maildirs."""

    folder: Path
    authority: Authority
    certificate: Path
    smtp_port: int
    imap_port: int

    def settings(self, **changes: Any) -> Settings:
        """Settings of a client of these servers."""
        values = {
            "mss_sender": SENDER,
            "mss_product_reference": "REF-0001",
            "organization_name": "DAC du Val",
            "sender_timeout": 20.0,
            "mss_port": self.smtp_port,
            "imap_port": self.imap_port,
            "mss_ca_file": str(self.authority.ca_file),
            "mss_crl_file": str(self.authority.crl_file),
            "mss_certificate": str(self.certificate),
            "fhir_packages": "none",
        }
        return Settings.of(values | changes)

    def reader(self, mailbox: str) -> Settings:
        """Settings of who reads a mailbox: Dovecot knows it by the name in the certificate."""
        certificate = self.authority.client_certificate(mailbox)
        return self.settings(mailboxes=mailbox, mss_certificate=str(certificate))

    def mails(self, mailbox: str, folder: str = "") -> list[Path]:
        """The files of a mailbox's Maildir."""
        user, _, domain = mailbox.partition("@")
        home = self.folder / "mail" / domain / user / "Maildir"
        place = home / f".{folder}" if folder else home
        return [path for part in ("new", "cur") for path in (place / part).glob("*")]

    def wait_for(self, mailbox: str, count: int) -> list[Path]:
        """The files of a mailbox once there are `count`: Postfix delivers when it comes to it."""
        deadline = time.monotonic() + 60
        while len(found := self.mails(mailbox)) < count and time.monotonic() < deadline:
            time.sleep(0.05)
        return found


@contextmanager
def mail_servers(*mailboxes: str) -> Iterator[MailServers]:
    """Both, running, with these mailboxes beside SENDER and BOUNCING. Raises ServersUnavailableError."""
    postfix, dovecot = _program("postfix"), _program("dovecot")
    if os.geteuid() != 0:
        raise ServersUnavailableError("Postfix and Dovecot must be started by root")
    folder = Path(tempfile.mkdtemp(prefix="relais-mail-"))
    folder.chmod(0o755)
    try:
        servers = _configure(folder, (SENDER, *mailboxes))
        config = str(folder / "etc")
        imap = subprocess.Popen([dovecot, "-F", "-c", str(folder / "dovecot.conf")], stderr=subprocess.DEVNULL)
        started = subprocess.run([postfix, "-c", config, "start"], capture_output=True, text=True, check=False)
        try:
            if started.returncode:
                raise ServersUnavailableError(f"Postfix does not start: {started.stderr[-500:]}")
            _wait_until_ready(servers)
            yield servers
        finally:
            subprocess.run([postfix, "-c", config, "stop"], capture_output=True, check=False)
            imap.terminate()
            imap.wait(timeout=30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _configure(folder: Path, mailboxes: tuple[str, ...]) -> MailServers:
    authority = Authority(folder, "127.0.0.1")
    server = authority._server
    key = server.private_key_pem.bytes()
    (folder / "server.pem").write_bytes(key + b"".join(pem.bytes() for pem in server.cert_chain_pems))
    (folder / "ca-and-crl.pem").write_bytes(authority.ca_file.read_bytes() + authority.crl_file.read_bytes())
    owner = pwd.getpwnam("postfix")
    for name in ("etc", "queue", "data", "mail", "dovecot", "dovecot-state"):
        (folder / name).mkdir()
    for name in ("data", "mail"):
        os.chown(folder / name, owner.pw_uid, owner.pw_gid)
    smtp_port, imap_port = _free_port(), _free_port()
    named = {"folder": folder, "uid": owner.pw_uid, "gid": owner.pw_gid}
    homes = ", ".join(f"{box}={box.partition('@')[2]}/{box.partition('@')[0]}/Maildir/" for box in mailboxes)
    (folder / "etc" / "main.cf").write_text(_MAIN.format(mailboxes=homes, bouncing=BOUNCING, **named))
    (folder / "etc" / "master.cf").write_text(_MASTER.format(port=smtp_port))
    (folder / "dovecot.conf").write_text(_DOVECOT.format(port=imap_port, **named))
    return MailServers(folder, authority, authority.client_certificate(), smtp_port, imap_port)


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        raise ServersUnavailableError(f"{name} not found (Debian packages: postfix, dovecot-imapd)")
    return found


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_until_ready(servers: MailServers) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            smtplib.SMTP("127.0.0.1", servers.smtp_port, timeout=5).quit()
            with socket.create_connection(("127.0.0.1", servers.imap_port), timeout=5) as connection:
                assert connection.recv(4) == b"* OK"
        except (OSError, AssertionError) as error:
            if time.monotonic() > deadline:
                logs = "".join(path.read_text(errors="replace")[-1000:] for path in servers.folder.glob("*.log"))
                raise ServersUnavailableError(f"not ready: {logs}") from error
            time.sleep(0.1)
        else:
            return
