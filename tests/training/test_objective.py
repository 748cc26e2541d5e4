import torch

from poseline_training.objective import border_targets, class_weights, localization_loss


def test_border_targets_are_triangles_at_changes_of_action() -> None:
    labels = torch.tensor([[0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 0, 0, 0, 0]])
    targets = border_targets(labels)[0]
    assert targets[:, 0].tolist() == [0, 0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25, 0, 0, 0, 0, 0, 0]
    assert targets[:, 1].tolist() == [0] * 8 + [0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25]


def test_a_change_to_or_from_an_ignored_stretch_is_no_border() -> None:
    assert border_targets(torch.tensor([[-1, -1, 2, 2, -1, -1]])).sum() == 0


def test_back_to_back_actions_end_and_start_at_once() -> None:
    targets = border_targets(torch.tensor([[1, 1, 1, 1, 2, 2, 2, 2]]))[0]
    assert targets[4].tolist() == [1, 1]


def test_ignored_frames_carry_no_loss_and_no_gradient() -> None:
    logits = torch.randn(1, 6, 3, requires_grad=True)
    borders = torch.randn(1, 6, 2, requires_grad=True)
    labels = torch.tensor([[0, 1, 1, -1, -1, -1]])
    localization_loss(logits, borders, labels, torch.ones(3), 0.05, 0.5).backward()
    assert logits.grad is not None
    assert borders.grad is not None
    assert logits.grad[0, 3:].abs().max() == 0
    assert borders.grad[0, 3:].abs().max() == 0
    assert logits.grad[0, :3].abs().max() > 0


def test_class_weights_have_mean_one_and_favour_the_rare() -> None:
    shares = torch.tensor([0.7, 0.2, 0.1])
    weights = class_weights(shares, 0.15)
    assert abs((weights * shares).sum() - 1) < 1e-6
    assert weights[0] < weights[1] < weights[2]
