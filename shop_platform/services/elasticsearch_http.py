"""How the client of Elasticsearch speaks to a node: as it does by itself, but for certificates that are refused."""

from __future__ import annotations

import ssl
from typing import Any

from elastic_transport import TlsError, TransportError, Urllib3HttpNode
from urllib3.util.ssl_match_hostname import CertificateError


class RefusedCertificateError(TransportError):
    """A node's certificate is not good. Unlike a connection that is lost, it is not asked again: it stays so."""


class Node(Urllib3HttpNode):
    """A node whose certificate is verified once."""

    def perform_request(self, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401  as it is called
        """Make a request.

        Raises:
            RefusedCertificateError: the certificate has expired, is for another host name, or nobody trusted signed it.
            TransportError: all else that went wrong.
        """
        try:
            return super().perform_request(*arguments, **named)
        except TlsError as error:
            causes = (inner for outer in error.errors for inner in (outer, *outer.args))
            if any(isinstance(cause, ssl.SSLCertVerificationError | CertificateError) for cause in causes):
                raise RefusedCertificateError(str(error)) from error
            raise
