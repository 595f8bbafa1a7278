"""The certificate that the port shows: PEM files that are read anew when they change, so that it can be renewed.

gRPC asks before each handshake. Connections that stand go on with the certificate that they began with.
Promises: files that cannot be used, as while one of a pair is replaced and the other is not yet, change nothing; what
was read before stays in use, and the log says so once. Never does: keep a key anywhere but in gRPC's hands.
"""

from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING, Final

import grpc

if TYPE_CHECKING:
    from pathlib import Path

log: Final = logging.getLogger(__name__)


class Tls:
    """A certificate with its key and, if clients must show one too, who signs theirs.

    Raises OSError if a file cannot be read, ValueError if they do not belong together.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None = None) -> None:
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        self._read_as_of = self._stamps()
        self._first = self._read()

    @property
    def asks_clients(self) -> bool:
        """Whether clients must show a certificate."""
        return self._client_ca is not None

    def credentials(self) -> grpc.ServerCredentials:
        """The same for gRPC, which asks for what is new before each handshake."""
        return grpc.dynamic_ssl_server_credentials(
            self._first,
            self.renewed,  # type: ignore[arg-type] # None means no change; the stubs forget it
            require_client_authentication=self.asks_clients,
        )

    def renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """What the files hold; None if they are as they were when they were last looked at, or cannot be used."""
        stamps = self._stamps()
        if stamps == self._read_as_of:
            return None
        self._read_as_of = stamps
        try:
            found = self._read()
        except (OSError, ValueError) as error:
            log.warning("tls: %s; the certificate read before stays in use", error)
            return None
        log.info("tls: %s has changed and is in use", self._certificate)
        return found

    def _read(self) -> grpc.ServerCertificateConfiguration:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        chain, key = self._certificate.read_bytes(), self._key.read_bytes()
        authority = None if self._client_ca is None else self._client_ca.read_bytes()
        try:
            context.load_cert_chain(self._certificate, self._key, password="")
        except ssl.SSLError:
            files = f"{self._certificate} and {self._key}"
            raise ValueError(f"{files} are no certificate and its key, without a password") from None
        try:
            if self._client_ca is not None:
                context.load_verify_locations(self._client_ca)
        except ssl.SSLError:
            raise ValueError(f"{self._client_ca} holds no certificate") from None
        return grpc.ssl_server_certificate_configuration([(key, chain)], authority)

    def _stamps(self) -> list[tuple[int, int, int] | None]:
        return [_stamp(file) for file in (self._certificate, self._key, self._client_ca) if file is not None]


def _stamp(file: Path) -> tuple[int, int, int] | None:
    """Differs if the file does; None if it cannot be seen."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
