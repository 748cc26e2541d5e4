"""Metrics, one file per protocol, pure numpy on what the stream gave: `frames`, `segments`, `starts`."""
