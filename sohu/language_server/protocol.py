# SPDX-License-Identifier: Apache-2.0
"""The protocol as pygls speaks it, with an answer to requests that are none: pygls leaves their senders waiting."""

from __future__ import annotations

from typing import Any

from pygls.exceptions import JsonRpcException
from pygls.protocol import LanguageServerProtocol
from pygls.protocol.json_rpc import JsonRPCNotification

PASSED_OVER = "$/passedOver"
"""The method of what is put in place of such a message; unknown notices that begin with `$/` are passed over."""


class AnsweringProtocol(LanguageServerProtocol):
    """Answers a request whose parameters are not those of its method with an error."""

    def structure_message(self, data: dict[str, Any]) -> Any:
        """Return a message; a malformed request is answered, and a notice in its place returned."""
        try:
            return super().structure_message(data)
        except JsonRpcException as refused:
            if "method" not in data:
                raise
            if "id" in data:
                self._send_response(data["id"], None, refused.to_response_error())
            return JsonRPCNotification(method=PASSED_OVER, jsonrpc=self.VERSION, params=None)
