"""The same gateway and broker as the integration tests."""

from tests.integration.conftest import broker, broker_process, gateway

__all__ = ["broker", "broker_process", "gateway"]
