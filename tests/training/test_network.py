"""The network's promises: causal, the same frame by frame, blind to place, unit and what it is told is missing."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from poseline.skeleton import BODY16
from poseline_training.network.localizer import Body, Localizer
from poseline_training.network.steps import deployed
from torch_steps import torch_scorer

STEPPED: dict[Body, int] = {"strided_u": 96, "gru": 96, "linear": 0, "tcn": 72, "transformer": 96, "stgcn": 96}
CAUSAL: dict[Body, int] = {**STEPPED, "skateformer": 96}
"""Body → width: those that run frame by frame, and all that are blind to the future."""
T = 77


def motion(batch: int, frames: int = T, seed: int = 0) -> torch.Tensor:
    """A random walk of joints around a standing skeleton, some of them unseen for a while."""
    rng = torch.Generator().manual_seed(seed)
    poses = torch.randn(batch, frames, 16, 4, generator=rng).cumsum(1) * 0.02
    poses[..., 1] += torch.linspace(0, 1.6, 16)
    poses[..., 3] = (torch.rand(batch, frames, 16, generator=rng) > 0.1).float()
    return poses


def lively(body: Body) -> Localizer:
    torch.manual_seed(0)
    made = Localizer(BODY16, 12, body, CAUSAL[body], 0.1).train()
    for seed in range(20):  # batch norms that have seen something
        made(motion(4, 64, seed))
    with torch.no_grad():
        made.classify.weight.mul_(8)  # scores far from uniform, so that a difference would show
    return made.eval()


@pytest.fixture(scope="module", params=CAUSAL)
def network(request: pytest.FixtureRequest) -> Localizer:
    return lively(request.param)


@pytest.fixture(scope="module", params=STEPPED)
def stepped(request: pytest.FixtureRequest) -> Localizer:
    return lively(request.param)


def full(network: Localizer, poses: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return network(poses)[0].softmax(-1).numpy()


def test_frame_by_frame_equals_the_full_sequence(stepped: Localizer) -> None:
    poses = motion(3)
    scores, boundaries, _ = torch_scorer(stepped).replay(poses.numpy())
    with torch.no_grad():
        logits, borders = stepped(poses)
    assert np.abs(scores - logits.softmax(-1).numpy()).max() < 1e-5
    assert np.abs(boundaries - borders.sigmoid().numpy()).max() < 1e-5
    assert scores.std() > 0.01, "scores that do not vary would prove nothing"


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_streams_that_come_and_go_do_not_touch_one_another(data: st.DataObject) -> None:
    """Random batches of streams at random times on reused slots: each as if it were alone."""
    torch.manual_seed(0)
    network = Localizer(BODY16, 5, "strided_u", 96).eval()
    engine = torch_scorer(network, slots=4)
    poses = motion(6, 40, seed=1)
    expected = full(network, poses)
    live: dict[int, int] = {}  # stream → slot
    clock = dict.fromkeys(range(6), 0)
    for _ in range(120):
        stream = data.draw(st.integers(0, 5))
        if stream not in live and len(live) < 4:
            live[stream], clock[stream] = engine.open(), 0
        some = [one for one in live if data.draw(st.booleans())]
        if some:
            joints = np.stack([poses[one, clock[one]].numpy() for one in some])
            scores, *_ = engine.step(np.array([live[one] for one in some]), joints)
            for one, row in zip(some, scores, strict=True):
                assert np.abs(row - expected[one, clock[one]]).max() < 1e-5
                clock[one] += 1
        for one in [one for one in live if clock[one] == 40 or data.draw(st.integers(0, 15)) == 0]:
            engine.close(live.pop(one))


def test_dropping_the_state_would_be_seen(stepped: Localizer) -> None:
    """The negative control of the tests above."""
    poses = motion(1)
    engine = torch_scorer(stepped)
    slot = np.array([engine.open()])
    forgetful = []
    for t in range(T):
        engine.restart(int(slot[0]))
        forgetful.append(engine.step(slot, poses[:, t].numpy())[0])
    assert np.abs(np.stack(forgetful, 1) - full(stepped, poses)).max() > 0.01


@pytest.mark.parametrize("t", [1, 30, 31, 32, 33, 76])
def test_the_future_changes_nothing(network: Localizer, t: int) -> None:
    poses = motion(2)
    other = poses.clone()
    other[:, t:, :, :3] += torch.randn_like(other[:, t:, :, :3])
    difference = np.abs(full(network, poses) - full(network, other))
    assert difference[:, :t].max() == 0
    assert difference[:, t:].max() > 0


def test_place_does_not_matter(network: Localizer) -> None:
    poses = motion(2)
    moved = poses.clone()
    moved[..., :3] += torch.tensor([3.0, -1.0, 2.0])
    assert np.abs(full(network, poses) - full(network, moved)).max() < 1e-3


@pytest.mark.parametrize("unit", [0.01, 39.37, 1000.0])
def test_the_unit_of_length_does_not_matter(network: Localizer, unit: float) -> None:
    poses = motion(2)
    other = poses.clone()
    other[..., :3] *= unit
    assert np.abs(full(network, poses) - full(network, other)).max() < 1e-3


def test_a_person_without_a_torso_yet_has_finite_scores(network: Localizer) -> None:
    poses = motion(1)
    poses[:, :20, :, 3] = 0
    poses[:, :20, :, :3] = 0
    assert np.isfinite(full(network, poses)).all()


def test_rows_too_narrow_for_a_pose_are_refused() -> None:
    with pytest.raises(ValueError, match="state rows of 32 numbers cannot hold a pose's 67"):
        deployed(Localizer(BODY16, 5, "strided_u", 32))


def test_a_selected_head_says_what_it_said_among_others() -> None:
    torch.manual_seed(0)
    network = Localizer(BODY16, 5, "strided_u", 96, look_aheads=(0, 4, 8)).eval()
    poses = motion(2)
    with torch.no_grad():
        every = network.heads(poses)
        network.select(4)
        logits, borders = network(poses)
    assert torch.allclose(logits, every[1][0], atol=1e-6)
    assert torch.allclose(borders, every[1][1], atol=1e-6)
    assert network.look_aheads == (4,)
    with pytest.raises(ValueError, match="trained for look-ahead 4, not 0"):
        network.select(0)


def test_the_twin_sees_as_far_ahead_as_behind() -> None:
    """The control of the test that the future changes nothing: for the twin it does, on either side alike."""
    torch.manual_seed(0)
    network = Localizer(BODY16, 5, "centred_u", 96).eval()
    poses = motion(1, 240)
    other = poses.clone()
    other[:, 120, 4:, :3] += 0.5
    with torch.no_grad():
        touched = (network(poses)[0] - network(other)[0]).abs().amax((0, 2)) > 1e-6
    seen = touched.nonzero()
    assert 120 - int(seen.min()) > 40
    assert int(seen.max()) - 120 > 40
