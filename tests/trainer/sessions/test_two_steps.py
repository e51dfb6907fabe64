"""The mathematics of the two-step loss, as `tests/trainer/test_maml.py` has that of MAML."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from crosyslog.manifest import SessionShape
from crosyslog.session_detector import SessionDetector, SessionMember
from trainer.sessions.two_steps import Batch, batch_loss, two_step_loss

Parameters = dict[str, Tensor]

#: Dimensions of a vector; size of the trial step; what the target counts.
DIM, RATE, BETA = 3, 0.4, 0.7


def member() -> SessionMember:
    torch.manual_seed(0)
    built = SessionDetector(SessionShape(dim=DIM, hidden=2, layers=1)).double().each()[0]
    # The direct logit starts at zero; a gradient through nothing would prove nothing.
    with torch.no_grad():
        built.direct.weight.copy_(torch.tensor([[0.03, -0.02, 0.05]]))
    return built


def batch(seed: int, device: str = "cpu") -> Batch:
    draw = torch.Generator().manual_seed(seed)
    vectors_BLD = torch.randn(4, 5, DIM + 1, generator=draw, dtype=torch.float64)
    anomalous_B = torch.tensor([1.0, 0.0, 0.3, 0.9], dtype=torch.float64)
    weights_B = torch.tensor([1.0, 0.5, 0.2, 0.8], dtype=torch.float64)
    lengths_B = torch.tensor([5, 2, 1, 4])
    return Batch(vectors_BLD.to(device), lengths_B, anomalous_B.to(device), weights_B.to(device))


def leaves(member: SessionMember, device: str = "cpu") -> Parameters:
    return {
        name: value.detach().clone().to(device).requires_grad_()
        for name, value in member.named_parameters()
    }


def loss_of(
    parameters: Parameters,
    *,
    rate: float = RATE,
    beta: float = BETA,
    first_order: bool = False,
    device: str = "cpu",
) -> Tensor:
    return two_step_loss(
        member(),
        parameters,
        batch(1, device),
        batch(2, device),
        rate=rate,
        beta=beta,
        first_order=first_order,
    )


def gradients(loss: Tensor, parameters: Parameters) -> Parameters:
    found = torch.autograd.grad(loss, list(parameters.values()))
    return dict(zip(parameters, found, strict=True))


def tried(parameters: Parameters) -> Parameters:
    """Each parameter after the trial step, which is written out here."""
    step = gradients(batch_loss(member(), parameters, batch(1)), parameters)
    return {name: value - RATE * step[name] for name, value in parameters.items()}


def test_the_loss_of_a_batch_is_the_weighted_mean_of_cross_entropies() -> None:
    parameters, sessions = leaves(member()), batch(1)
    scores_B = torch.sigmoid(member()(sessions.vectors_BLD, sessions.lengths_B).logits_B)
    each_B = -sessions.anomalous_B * scores_B.log() - (1 - sessions.anomalous_B) * (
        (1 - scores_B).log()
    )
    expected = (each_B * sessions.weights_B).sum() / 2.5
    torch.testing.assert_close(batch_loss(member(), parameters, sessions), expected)


def test_the_loss_is_that_before_and_that_after_the_trial_step() -> None:
    parameters = leaves(member())
    before = batch_loss(member(), parameters, batch(1))
    after = batch_loss(member(), tried(parameters), batch(2))
    assert (after - batch_loss(member(), parameters, batch(2))).abs() > 1e-3
    torch.testing.assert_close(loss_of(parameters), before + BETA * after)


@pytest.mark.parametrize("name", [name for name, _ in member().named_parameters()])
def test_the_gradient_through_the_trial_step_equals_finite_differences(name: str) -> None:
    parameters = leaves(member())
    exact = gradients(loss_of(parameters), parameters)[name]
    step, numeric = 1e-5, torch.zeros_like(exact)
    for entry in range(numeric.numel()):
        sides = []
        for sign in (1, -1):
            moved = leaves(member())
            with torch.no_grad():
                moved[name].view(-1)[entry] += sign * step
            sides.append(loss_of(moved).detach())
        numeric.view(-1)[entry] = (sides[0] - sides[1]) / (2 * step)
    assert numeric.abs().max() > 1e-6, "this parameter has no influence: the test proves nothing"
    torch.testing.assert_close(exact, numeric, rtol=1e-5, atol=1e-8)


def test_to_first_order_the_trial_step_is_a_constant() -> None:
    parameters = leaves(member())
    first = gradients(loss_of(parameters, first_order=True), parameters)
    after = {name: value.detach().requires_grad_() for name, value in tried(parameters).items()}
    on_source = gradients(batch_loss(member(), parameters, batch(1)), parameters)
    on_target = gradients(batch_loss(member(), after, batch(2)), after)
    for name, gradient in first.items():
        torch.testing.assert_close(gradient, on_source[name] + BETA * on_target[name], msg=name)
    second = gradients(loss_of(parameters), parameters)
    assert any(not torch.allclose(second[name], first[name], rtol=1e-2) for name in first)
    torch.testing.assert_close(loss_of(parameters, first_order=True), loss_of(parameters))


def test_without_a_trial_step_it_is_the_joint_loss() -> None:
    parameters = leaves(member())
    joint = batch_loss(member(), parameters, batch(1)) + BETA * batch_loss(
        member(), parameters, batch(2)
    )
    plain = loss_of(parameters, rate=0)
    torch.testing.assert_close(plain, joint)
    expected = gradients(joint, parameters)
    for name, gradient in gradients(plain, parameters).items():
        torch.testing.assert_close(gradient, expected[name], msg=name)


def test_beta_says_what_the_target_counts() -> None:
    parameters = leaves(member())
    source, one, four = (loss_of(parameters, beta=beta) for beta in (0, 1, 4))
    torch.testing.assert_close(source, batch_loss(member(), parameters, batch(1)))
    torch.testing.assert_close(four - source, 4 * (one - source))


def test_the_members_own_weights_are_neither_read_nor_changed() -> None:
    built = member()
    parameters = {
        name: (2 * value.detach()).requires_grad_() for name, value in built.named_parameters()
    }
    before = {name: value.detach().clone() for name, value in built.named_parameters()}
    loss = two_step_loss(built, parameters, batch(1), batch(2), rate=RATE, beta=BETA)
    torch.autograd.backward(loss)
    for name, value in built.named_parameters():
        assert torch.equal(value, before[name])
        assert value.grad is None
        assert parameters[name].grad is not None
    assert (loss - loss_of(leaves(built))).abs() > 1e-3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("first_order", [False, True])
def test_the_gradient_through_the_trial_step_is_the_same_on_cuda(*, first_order: bool) -> None:
    """cuDNN's GRU has no second derivative; torch's own has, and the same one."""
    here, there = leaves(member()), leaves(member(), "cuda")
    expected = gradients(loss_of(here, first_order=first_order), here)
    found = gradients(loss_of(there, first_order=first_order, device="cuda"), there)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name].cpu(), gradient, msg=name)
