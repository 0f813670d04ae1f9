"""What every answer tells the browser that it may do: the content policy and its companions. docs/security.md.

Invariants: no inline script runs anywhere, and nothing is fetched from another host; the one loosening for scripts
(``unsafe-eval``, for the theme's Alpine) holds under ``/admin/`` only.
"""

from __future__ import annotations

from csp.constants import UNSAFE_EVAL
from csp.middleware import CSPMiddleware, PolicyParts
from django.http import HttpRequest
from django.http.response import HttpResponseBase

ADMIN = "/admin/"
COMPANIONS = {
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=(), browsing-topics=()",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class SecurityHeaders(CSPMiddleware):
    def get_policy_parts(
        self, request: HttpRequest, response: HttpResponseBase, report_only: bool = False
    ) -> PolicyParts:
        parts = super().get_policy_parts(request, response, report_only)
        if request.path_info.startswith(ADMIN):
            parts.update = {**(parts.update or {}), "script-src": [UNSAFE_EVAL]}
        return parts

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        answer = super().process_response(request, response)
        for name, value in COMPANIONS.items():
            answer.headers.setdefault(name, value)
        return answer
