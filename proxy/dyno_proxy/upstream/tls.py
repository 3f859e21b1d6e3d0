"""An endpoint's TLS: which authorities are trusted, and which certificate of ours is shown."""

import ssl
from pathlib import Path
from typing import Final

_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"
_PRIVATE_KEY: Final = b"PRIVATE KEY-----"  # of any kind: RSA, EC, encrypted


class TlsFileError(ValueError):
    """A file that can't be used. `key`: the configuration's key that names it."""

    def __init__(self, key: str, file: str, why: str) -> None:
        super().__init__(f"{file}: {why}")
        self.key = key


def tls_context(ca_file: str | None, cert_file: str | None, key_file: str | None) -> ssl.SSLContext:
    """A context that always verifies the server's certificate and host name. All files are PEM.

    `ca_file` replaces the system's certificate authorities, as curl's --cacert does: an endpoint with a private
    authority needs no trust in a hundred public ones. `cert_file` may hold the key too. Raises TlsFileError.
    """
    if ca_file is not None and _CERTIFICATE not in _read("ca_file", ca_file):
        raise TlsFileError("ca_file", ca_file, "it holds no certificate in PEM form")
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError as error:
        raise TlsFileError("ca_file", ca_file or "", f"a certificate in it is invalid ({error.reason})") from error
    context.set_alpn_protocols(["http/1.1"])
    if cert_file is not None:
        _show(context, cert_file, key_file)
    return context


def _show(context: ssl.SSLContext, cert_file: str, key_file: str | None) -> None:
    """Let the context show our certificate to servers that ask for one."""
    key, holder = ("client_cert_file", cert_file) if key_file is None else ("client_key_file", key_file)
    if _CERTIFICATE not in _read("client_cert_file", cert_file):
        raise TlsFileError("client_cert_file", cert_file, "it holds no certificate in PEM form")
    if _PRIVATE_KEY not in _read(key, holder):
        hint = "" if key_file is not None else "; name the key's file in client_key_file"
        raise TlsFileError(key, holder, f"it holds no private key in PEM form{hint}")

    def password() -> str:
        raise TlsFileError(key, holder, "the private key is encrypted; `openssl pkey -in FILE` writes it in the clear")

    try:
        context.load_cert_chain(cert_file, holder, password)  # without `password` OpenSSL would ask on the terminal
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            why = f"the private key doesn't belong to the certificate in {cert_file}"
        else:
            why = f"the certificate or its key is invalid ({error.reason})"
        raise TlsFileError(key, holder, why) from error


def _read(key: str, file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise TlsFileError(key, file, f"it can't be read: {(error.strerror or str(error)).lower()}") from error
