"""Metrics, one file per protocol, pure numpy on what the stream gave; docs/metrics.md tells what each number means.

Averages over classes are over those that occur; what cannot be measured is NaN.
"""
