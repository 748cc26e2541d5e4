import pytest

from poseline.client import address


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("http://host:1", "ws://host:1/v1/stream"),
        ("ws://host:1/", "ws://host:1/v1/stream"),
        ("https://host", "wss://host/v1/stream"),
        ("wss://host/other?model=x", "wss://host/other?model=x"),
    ],
)
def test_a_servers_address_is_completed(given: str, meant: str) -> None:
    assert address(given, "ws", "/v1/stream") == meant
