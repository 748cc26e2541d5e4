"""What each rival claims of itself: what its frames see, that it exports, and that the one without step graphs says so."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from rich.console import Console

from poseline.errors import InputError
from poseline.skeleton import BODY16
from poseline_training.config import ExportSettings, FinetuneSettings
from poseline_training.export import write_bundle
from poseline_training.network.localizer import BODIES, Body, Localizer
from poseline_training.network.rivals.skateformer import _partition_attention
from poseline_training.network.rivals.windows import attention, banded
from poseline_training.network.steps import deployed
from torch_steps import torch_scorer

CONFIGS = Path(__file__).parents[2] / "training" / "configs"
VIEWS = {"linear": 33, "tcn": 253, "transformer": 260, "stgcn": 127, "skateformer": 129}
"""Frames that a score depends on, as the rivals' docstrings give them. A GRU's have no end."""


def lively(body: Body, width: int) -> Localizer:
    """A network whose batch norms have seen something and whose zero-initialised biases are not zero."""
    torch.manual_seed(0)
    network = Localizer(BODY16, 5, body, width, 0.0).train()
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.split(".")[-1] in ("by_age", "by_row", "bias", "offset"):
                weight.add_(torch.randn_like(weight) * 0.3)
        for seed in range(5):
            network(poses(4, 64, seed))
        network.classify.weight.mul_(4)
    return network.eval()


def poses(batch: int, frames: int, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    made = torch.randn(batch, frames, 16, 4, generator=rng).cumsum(1) * 0.02
    made[..., 1] += torch.linspace(0, 1.6, 16)
    made[..., 3] = 1
    return made


def test_every_body_can_be_made_by_name() -> None:
    assert tuple(BODIES) == get_args(Body)


@pytest.mark.parametrize("body", ["gru", *VIEWS])
def test_its_experiment_differs_from_the_defaults_in_the_network_alone(body: Body) -> None:
    rival, default = (FinetuneSettings.load(CONFIGS / f"{name}.yaml") for name in (f"rival-{body}", "finetune"))
    assert rival.network.body == body
    own = {"network", "init", "steps"}
    assert rival.model_dump(exclude=own) == default.model_dump(exclude=own)
    assert rival.init is None


@pytest.mark.parametrize("body", VIEWS)
def test_a_frame_sees_as_far_back_as_it_says(body: Body) -> None:
    """On features, since poses leave a trace in the running torso length for ever."""
    network, T = lively(body, 96).body, 300
    features = torch.randn(1, T, 160, requires_grad=True)
    network(features)[0, T - 1].square().sum().backward()
    assert features.grad is not None
    seen = features.grad[0].abs().sum(-1).nonzero()
    assert T - int(seen.min()) == VIEWS[body]


@pytest.mark.parametrize("body", [body for body in VIEWS if body != "skateformer"])
def test_rings_that_have_come_round_change_nothing(body: Body) -> None:
    """Longer than every ring and than the long memory's delay, from a stream that starts beside an older one."""
    network, T = lively(body, 96), 330
    engine, motion = torch_scorer(network, 4), poses(2, T)
    engine.replay(poses(3, 50, 1).numpy())  # former owners of the slots
    scores, boundaries, _ = engine.replay(motion.numpy())
    with torch.no_grad():
        logits, borders = network(motion)
    assert np.abs(scores - logits.softmax(-1).numpy()).max() < 1e-5
    assert np.abs(boundaries - borders.sigmoid().numpy()).max() < 1e-5
    assert scores.std() > 0.01, "scores that do not vary would prove nothing"


@pytest.mark.filterwarnings("ignore")  # the ONNX exporter uses functions that torch itself has deprecated
@pytest.mark.parametrize("body", ["tcn", "transformer", "stgcn"])
def test_it_exports_to_a_bundle_that_equals_it(body: Body, tmp_path: Path) -> None:
    settings = ExportSettings(
        name="rival",
        run=tmp_path,
        output=tmp_path / "bundle",
        license="none",
        research_only=True,
        description="A rival.",
        license_text="None.",
    )
    network = lively(body, 72)
    bundle = write_bundle(network, ("background", "a", "b", "c", "d"), settings, Console(quiet=True))
    assert bundle.manifest.state == deployed(network).spec()


def test_the_one_without_step_graphs_says_so() -> None:
    with pytest.raises(InputError, match="skateformer has no step graphs: it is evaluated whole"):
        deployed(Localizer(BODY16, 5, "skateformer", 96))


def test_attention_by_age_is_what_it_says_it_is() -> None:
    """Against a loop over frames: each attends to itself and to `span` before it, zeros before the first."""
    span, T, heads = 3, 9, 2
    queries, keys, values = torch.randn(3, T, 4)
    bias = torch.randn(heads, span + 1)
    allowed = banded(bias)
    for t in range(span, T - T % span):
        i = t % span
        start = t - i - span
        block = attention(
            queries[t, None], keys[start : start + 2 * span], values[start : start + 2 * span], allowed[:, i, None]
        )
        ages = [t - age for age in range(span + 1)]
        one = attention(queries[t, None], keys[ages], values[ages], bias[:, None])
        assert torch.allclose(block, one, atol=1e-6)


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("distant", [False, True])
def test_a_joint_sees_its_partition_and_nothing_else(across: bool, distant: bool) -> None:
    relation, bias = torch.randn(3, 1, 128, 4, 4, 2), torch.randn(4, 4, 9)
    other = relation.clone()
    t, part, place = 21, 1, 2
    other[2, :, t, part, place] += 1  # its value: whoever sees it, changes
    before, after = (_partition_attention(some, bias, across, distant) for some in (relation, other))
    changed = {tuple(one) for one in (before - after)[0].abs().sum(-1).nonzero().tolist()}
    frames = [t + age * (8 if distant else 1) for age in range(9)]
    joints = [(one, place) if across else (part, one) for one in range(4)]
    assert changed == {(frame, *joint) for frame in frames for joint in joints}


@pytest.mark.parametrize("body", ["tcn", "transformer", "stgcn", "skateformer"])
def test_it_learns(body: Body) -> None:
    """A dozen steps on one batch at the default's precision: the loss falls, and every weight has a gradient."""
    torch.manual_seed(0)
    network = Localizer(BODY16, 3, body, 72, 0.0).train()
    motion, labels = poses(2, 128), torch.randint(0, 3, (2, 8)).repeat_interleave(16, 1)
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
    losses = []
    for _ in range(12):
        with torch.autocast("cpu", torch.bfloat16):
            logits, borders = network(motion)
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten())
        optimizer.zero_grad()
        (loss + borders.float().square().mean()).backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    assert not [name for name, weight in network.named_parameters() if weight.grad is None]
