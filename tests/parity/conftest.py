"""A small network, what torch says of a few long recordings, and a bundle with a twin."""

from __future__ import annotations

import numpy as np
import pytest

from small_network import Truth, Twins, exported, made, motion, said

STREAMS, FRAMES = 6, 200


@pytest.fixture(scope="session")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    rng = np.random.default_rng(3)
    network = made(rng)
    bundle = exported(tmp_path_factory.mktemp("parity") / "small", network)
    poses = motion(rng, STREAMS, FRAMES)
    return Truth(bundle, network, poses, *said(network, poses))


@pytest.fixture(scope="session")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Twins:
    rng = np.random.default_rng(4)
    causal, whole = made(rng), made(rng, "centred_u")
    models = tmp_path_factory.mktemp("twins")
    (models / "DEFAULT").write_text("small")
    return Twins(models, exported(models / "small", causal, whole, unknown_below=0.5), causal, whole)
