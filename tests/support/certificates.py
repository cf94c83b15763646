"""Certificates for tests, made anew each time."""

import ssl
from pathlib import Path
from typing import NamedTuple

import trustme


class Files(NamedTuple):
    """What a server and its clients need, as paths."""

    authority: Path
    certificate: Path
    key: Path


class Authority:
    """An authority of its own, which signs what is asked for."""

    def __init__(self) -> None:
        self.ca = trustme.CA()

    def issue(self, directory: Path, name: str = "localhost", file: str = "server") -> Files:
        """A certificate for `name` and 127.0.0.1, in files of the directory."""
        made = self.ca.issue_cert(name, "127.0.0.1")
        files = Files(directory / "authority.pem", directory / f"{file}.pem", directory / f"{file}.key")
        self.ca.cert_pem.write_to_path(str(files.authority))
        files.certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        made.private_key_pem.write_to_path(str(files.key))
        return files

    def client(self, certificate: Files | None = None) -> ssl.SSLContext:
        """A client's side, which trusts this authority, with its own certificate if it has one."""
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        if certificate is not None:
            context.load_cert_chain(certificate.certificate, certificate.key)
        return context


def environment(files: Files, **more: str) -> dict[str, str]:
    """A server's settings for TLS. `only="true"` is tls.only."""
    given = {"cert_file": str(files.certificate), "key_file": str(files.key), **more}
    return {f"FLO_TLS_{name.upper()}": value for name, value in given.items()}
