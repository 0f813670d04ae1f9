"""What the OpenAPI schema says of keys, and how it names the calls."""

from __future__ import annotations

import re
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema


class ApiKeyScheme(OpenApiAuthenticationExtension):
    target_class = "backend.tradingbot.api.authentication.ApiKeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "description": "An API key; `manage.py key create` makes one."}


class NamedCalls(AutoSchema):
    """Names a call after its method and address, so that a list and one of its items never share a name."""

    def get_operation_id(self) -> str:
        """``GET /api/v1/orders/{client_order_id}`` -> ``get_orders_by_client_order_id``."""
        address = re.sub(r"^/(api/v\d+/)?", "", self.path)
        words = re.sub(r"\{(\w+)\}", r"by_\1", address)
        return "_".join([self.method.lower(), *re.findall(r"\w+", words)])
