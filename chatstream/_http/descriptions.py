"""Exceptions of the network → sentences: what happened, without the names of classes.

    an exception and its causes ─describe▶ "the connection was refused"
                                ─rejection▶ "it has expired", if a certificate was rejected

Rules:
- The innermost cause that has a known meaning is described, in terms of the user and not of a library.
- Any other exception is described by its text, without class names, numbers of errors, reprs of objects and passwords.
"""

from __future__ import annotations

import http.client
import os
import re
import socket
import ssl
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from ..errors import excerpt
from .framing import NO_ANSWER

TRUST = (
    "if you trust the server, set REQUESTS_CA_BUNDLE, or session.verify of the session that you pass to the client, to "
    "a file with the certificate of its certificate authority (CA)"
)
OTHER_NAME = "it was issued for a different host name than {host}; is base_url correct?"
REJECTIONS = {  # by the codes of OpenSSL (x509_vfy.h)
    9: "it is not valid yet; is the clock of this machine right?",
    10: "it has expired",
    18: f"it is self-signed; {TRUST}",
    19: f"this machine does not know the CA that signed it; {TRUST}",
    20: f"this machine does not know the CA that signed it; {TRUST}",
    21: f"the server does not send the certificate of the CA that signed it; {TRUST}",
    62: OTHER_NAME,
    64: OTHER_NAME,
}
CERTIFICATE = "TLS client certificate (session.cert of the session that you pass to the client)"
NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE")
ALERTS = {  # a part of the reason that OpenSSL gives → what it means
    "HANDSHAKE_FAILURE": f"{{peer}} and this machine have no TLS cipher in common, or it wants a {CERTIFICATE}",
    "CERTIFICATE_REQUIRED": f"{{peer}} wants a {CERTIFICATE}",
    "ALERT_BAD_CERTIFICATE": f"{{peer}} does not accept the {CERTIFICATE}",
    "ALERT_UNKNOWN_CA": f"{{peer}} does not accept the {CERTIFICATE}",
    "PROTOCOL": "{peer} and this machine have no version of TLS in common",
    "UNRECOGNIZED_NAME": "{peer} does not recognize this host name",
}
FILES = {  # a part of OpenSSL's message about a file of this machine → what is wrong with it
    "NO_CERTIFICATE_OR_CRL_FOUND": "the file has no certificates; check REQUESTS_CA_BUNDLE and session.verify",
    "PEM lib": "the file has no certificate with its private key, in PEM format; check session.cert",
    "KEY_VALUES_MISMATCH": "the private key is not that of the certificate; check session.cert",
}
OTHER_PROTOCOLS = (  # how the first line of an answer begins, raw or as a repr, that is not HTTP/1.1
    (re.compile(r"'?(\\x15|\x15)(\\x03|\x03)"), "its port speaks TLS; write https:// in base_url"),
    (re.compile(r"'?(\\x00|\0){2}.{1,4}(\\x04|\x04)(\\x00|\0)"), "it supports only HTTP/2"),
)
MEANINGS: Sequence[tuple[Any, str]] = (
    (http.client.RemoteDisconnected, "{peer} closed the connection without an answer"),
    (ConnectionRefusedError, "the connection was refused"),
    (BrokenPipeError, "{peer} closed the connection before it had read the request"),
    ((ConnectionResetError, ConnectionAbortedError), "{peer} closed the connection (reset)"),
    ((ssl.SSLEOFError, ssl.SSLZeroReturnError), "{peer} closed the connection in the middle of TLS"),
    (urllib3.exceptions.NewConnectionError, ""),  # to urllib3 it is a timeout; its cause says more
    ((TimeoutError, urllib3.exceptions.TimeoutError, requests.exceptions.Timeout), "{peer} took too long"),
    (urllib3.exceptions.InvalidChunkLength, "a chunk has no valid size"),
)
NOISE = re.compile(
    r"\b\w*Pool\(.*?\)(: Max retries exceeded with url: \S+)?:? ?|<[^>]*\bobject\b[^>]*>:? ?|\b\w+\(host=.*?\):? ?|"
    r"\[(?:Errno|SSL|WinError)[^\]]*\] ?| ?\(_ssl\.c:\d+\)|\(?Caused by |\b0x\w\w: |"
    r"\b(?:[a-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Timeout|Warning|Read)\b(?:\(|: ?)?"
)


def describe(causes: Sequence[BaseException], peer: str = "the server") -> str:
    """What the innermost of the ``causes`` that has a known meaning says of ``peer``."""
    known = next(filter(None, map(_meaning, reversed(causes))), "")
    return known.replace("{peer}", peer) or plain(causes[-1])


def _meaning(cause: BaseException) -> str:
    """What an exception means; empty if only its text says that."""
    for kinds, meaning in MEANINGS:
        if isinstance(cause, kinds):
            return meaning
    if isinstance(cause, ssl.SSLError):
        return _tls_meaning(_reason(cause))
    if isinstance(cause, http.client.IncompleteRead):
        return _meaning_of_cut(cause)
    if isinstance(cause, http.client.BadStatusLine):
        line = str(cause).strip()
        other = next((meaning for begin, meaning in OTHER_PROTOCOLS if begin.match(line)), "")
        if line == NO_ANSWER:
            return line
        return other or f"its answer begins with {_without_password(line)}"
    if not isinstance(cause, OSError) or cause.errno is None:
        return ""
    text = cause.strerror or os.strerror(cause.errno)
    if isinstance(cause, socket.gaierror):
        return f"the name can't be resolved: {text}; is the host of base_url right?"
    return _lower(text)


def _reason(error: BaseException) -> str:
    """OpenSSL's own word for a failure; empty if it gave none."""
    return str(getattr(error, "reason", None) or "") if isinstance(error, ssl.SSLError) else ""


def lacks_tls(error: BaseException) -> bool:
    """Whether a TLS handshake failed because the peer speaks something else."""
    return _reason(error) in NO_TLS


def _tls_meaning(reason: str) -> str:
    if reason in NO_TLS:
        return "its port does not speak TLS"
    known = next((meaning for part, meaning in ALERTS.items() if part in reason), "")
    return known or reason.replace("_", " ").lower()


def unusable_file(causes: Sequence[BaseException]) -> str:
    """What is wrong with a file of certificates that was to be loaded; empty if nothing is."""
    text = str(causes[-1]) if isinstance(causes[-1], ssl.SSLError) else ""
    return next((words for part, words in FILES.items() if part in text), "")


def _meaning_of_cut(error: http.client.IncompleteRead) -> str:
    read = error.partial if isinstance(error.partial, int) else len(error.partial)  # urllib3 keeps only the number
    size = f", after {read} of {read + error.expected} bytes" if error.expected else ""
    return f"{{peer}} closed the connection before the end of the body{size}"


def rejection(causes: Sequence[BaseException], host: str) -> str:
    """Why the certificate of ``host`` was rejected; empty if it was not."""
    name = urlsplit(f"//{host}").hostname or host
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            known = REJECTIONS.get(getattr(cause, "verify_code", 0)) or str(getattr(cause, "verify_message", ""))
            return known.replace("{host}", name) or plain(cause)
        if type(cause).__name__ == "CertificateError":  # of urllib3, if OpenSSL does not compare the names
            return OTHER_NAME.replace("{host}", name)
    return ""


def plain(error: BaseException) -> str:
    """The text of an exception without what only a programmer of its library understands."""
    text = _lower(NOISE.sub("", _without_password(str(error))).strip(" :"))
    while text.endswith(")") and text.count(")") > text.count("("):  # of a class whose name was taken out
        text = text[:-1]
    return excerpt(text) or "the connection failed"


def _without_password(text: str) -> str:
    return re.sub(r"//[^\s'\"]*@", "//***@", text)  # up to the last @, which a password may contain, too


def _lower(text: str) -> str:
    """The text as a part of a sentence: its first word in lower case, if it is an ordinary one."""
    return text[:1].lower() + text[1:] if re.match(r"[A-Z][a-z]*(?![\w-])", text) else text
