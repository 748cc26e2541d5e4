import torch

from poseline_training.objective import (
    IGNORE,
    Taught,
    border_targets,
    class_weights,
    distillation_loss,
    late,
    localization_loss,
)


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


def test_a_late_head_is_asked_about_earlier_frames() -> None:
    labels = torch.arange(6).view(1, 6)
    assert late(labels, 0, IGNORE).tolist() == [[0, 1, 2, 3, 4, 5]]
    assert late(labels, 2, IGNORE).tolist() == [[-1, -1, 0, 1, 2, 3]]
    assert late(torch.ones(1, 3, 2), 1, 0.0).tolist() == [[[0, 0], [1, 1], [1, 1]]]


def test_nothing_teaches_better_than_saying_the_same() -> None:
    """Cross-entropy against a teacher is least where the pupil agrees; frames that are not known teach nothing."""
    torch.manual_seed(0)
    teacher = torch.randn(2, 5, 4)
    borders = torch.randn(2, 5, 2)
    known = torch.ones(2, 5)
    known[0, 3:] = 0
    taught = Taught(teacher.softmax(-1), borders.sigmoid())
    same = distillation_loss(teacher, borders, taught, known)
    for _ in range(10):
        other = distillation_loss(teacher + torch.randn(2, 5, 4), borders + torch.randn(2, 5, 2), taught, known)
        assert same[0] < other[0]
        assert same[1] < other[1]
    pupil, ends = torch.randn(2, 5, 4, requires_grad=True), torch.randn(2, 5, 2, requires_grad=True)
    sum(distillation_loss(pupil, ends, taught, known)).backward()
    for gradient in (pupil.grad, ends.grad):
        assert gradient is not None
        assert gradient[0, 3:].abs().max() == 0
        assert gradient[0, :3].abs().min() > 0


def test_cross_entropy_against_a_sure_teacher_is_that_against_its_label() -> None:
    logits, labels = torch.randn(1, 4, 3), torch.tensor([[0, 2, 1, 1]])
    sure = Taught(torch.nn.functional.one_hot(labels, 3).float(), torch.zeros(1, 4, 2))
    classes, _ = distillation_loss(logits, torch.zeros(1, 4, 2), sure, torch.ones(1, 4))
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    assert torch.allclose(classes, expected)
