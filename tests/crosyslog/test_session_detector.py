from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from crosyslog.manifest import SessionShape
from crosyslog.session_detector import (
    _CONTRAST_SCALE,
    _DIRECT_SCALE,
    SessionDetector,
    SessionMember,
)
from crosyslog.threads import torch_threads

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Dimensions of a vector.
DIM = 6

LENGTHS = (3, 7, 1, 5, 7)


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with torch_threads(1):
        yield


def detector(members: int = 1, layers: int = 2, seed: int = 0) -> SessionDetector:
    """With weights large enough that all parts of it can be seen in a logit."""
    torch.manual_seed(seed)
    shape = SessionShape(dim=DIM, hidden=4, layers=layers, members=members)
    built = SessionDetector(shape).eval().requires_grad_(requires_grad=False)
    for member in built.each():
        for parameter in member.parameters():
            parameter.normal_(std=0.5)
        member.direct.weight.mul_(0.02)
    return built


def drawn(*lengths: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Sessions of so many lines, padded with zeros; and the lengths."""
    draw = torch.Generator().manual_seed(seed)
    vectors_BLD = SessionDetector.scaled(
        torch.randn(len(lengths), max(lengths), DIM, generator=draw)
    )
    lengths_B = torch.tensor(lengths)
    vectors_BLD[torch.arange(max(lengths)) >= lengths_B.unsqueeze(1)] = 0
    return vectors_BLD, lengths_B


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_sessions_do_not_see_each_other() -> None:
    built = detector(members=2)
    vectors_BLD, lengths_B = drawn(*LENGTHS)
    together = built(vectors_BLD, lengths_B)
    assert together.logits_B.std() > 0.1
    for session, length in enumerate(LENGTHS):
        alone = built(vectors_BLD[session, :length].unsqueeze(0), torch.tensor([length]))
        close(alone.logits_B[0], together.logits_B[session])
        close(alone.attention_BL[0], together.attention_BL[session, :length])


def test_what_pads_a_session_changes_nothing() -> None:
    built = detector(members=2)
    vectors_BLD, lengths_B = drawn(*LENGTHS)
    before = built(vectors_BLD, lengths_B)
    padding_BL = torch.arange(vectors_BLD.shape[1]) >= lengths_B.unsqueeze(1)
    other_BLD = vectors_BLD.clone()
    # A line that would draw all attention if it counted.
    loud_D = 100 * built.each()[0].direct.weight[0]
    other_BLD[padding_BL] = torch.cat([loud_D, torch.tensor([7.0])])
    longer_BLD = torch.cat([other_BLD, other_BLD], dim=1)
    for padded_BLD in (other_BLD, longer_BLD):
        after = built(padded_BLD, lengths_B)
        close(after.logits_B, before.logits_B)
        close(after.attention_BL[:, : vectors_BLD.shape[1]], before.attention_BL)
    assert built(longer_BLD, lengths_B).attention_BL.shape == (len(LENGTHS), 2 * max(LENGTHS))


def test_attention_is_one_in_sum_and_none_behind_the_end() -> None:
    vectors_BLD, lengths_B = drawn(*LENGTHS)
    attention_BL = detector(members=3)(vectors_BLD, lengths_B).attention_BL
    close(attention_BL.sum(dim=1), torch.ones(len(LENGTHS)))
    for weights_L, length in zip(attention_BL, LENGTHS, strict=True):
        assert (weights_L[:length] > 0).all()
        assert (weights_L[length:] == 0).all()


def test_order_matters_from_both_ends() -> None:
    built = detector(layers=1)
    # A direct logit does not depend on the order, so it is no part of this.
    built.each()[0].direct.weight.zero_()
    vectors_BLD, lengths_B = drawn(6)
    before = built(vectors_BLD, lengths_B).logits_B
    for lines in ([1, 0, 2, 3, 4, 5], [0, 1, 2, 3, 5, 4], [5, 4, 3, 2, 1, 0]):
        assert (built(vectors_BLD[:, lines], lengths_B).logits_B - before).abs() > 1e-3


def test_a_line_that_looks_bad_by_itself_draws_attention() -> None:
    built = detector()
    weight = built.each()[0].direct.weight
    vectors_BLD, lengths_B = drawn(DIM)
    weight.zero_()
    without = built(vectors_BLD, lengths_B)
    # As many lines as dimensions: the fifth can have a direct logit of 4, and the others none.
    direct_L = torch.tensor([0.0, 0.0, 0.0, 0.0, 4.0, 0.0])
    weight.copy_(torch.linalg.solve(vectors_BLD[0, :, :-1], direct_L).unsqueeze(0) / _DIRECT_SCALE)
    beside = built(vectors_BLD, lengths_B)
    assert without.attention_BL[0, 4] < 0.5
    assert beside.attention_BL[0, 4] > 0.9
    assert beside.logits_B[0] > without.logits_B[0] + 2
    # A contrast says the same of it without anything learnt.
    weight.zero_()
    vectors_BLD[0, :, -1] = direct_L / _CONTRAST_SCALE
    close(built(vectors_BLD, lengths_B).logits_B, beside.logits_B)


def test_a_new_detector_judges_by_no_direct_logit() -> None:
    torch.manual_seed(0)
    built = SessionDetector(SessionShape(dim=DIM))
    assert not built.each()[0].direct.weight.any()
    vectors_BLD, lengths_B = drawn(*LENGTHS)
    assert built(vectors_BLD, lengths_B).logits_B.abs().max() < 1


def test_members_say_their_mean() -> None:
    built = detector(members=3)
    vectors_BLD, lengths_B = drawn(*LENGTHS)
    each = [member(vectors_BLD, lengths_B) for member in built.each()]
    assert (each[0].logits_B - each[1].logits_B).abs().max() > 0.1
    judged = built(vectors_BLD, lengths_B)
    close(judged.logits_B, sum(one.logits_B for one in each) / 3)
    close(judged.attention_BL, sum(one.attention_BL for one in each) / 3)


@pytest.mark.parametrize("dim", [2, 16, 300])
def test_scaled_vectors_are_as_long_as_their_dimensions_ask(dim: int) -> None:
    vectors_TD = torch.randn(5, dim) * torch.tensor([1e-3, 1.0, 30.0, 0.0, 1e3]).unsqueeze(1)
    scaled_TD = SessionDetector.scaled(vectors_TD)
    assert not scaled_TD[:, -1].any()
    lengths_T = scaled_TD.norm(dim=1)
    torch.testing.assert_close(lengths_T[[0, 1, 2, 4]], torch.full((4,), dim**0.5))
    assert not scaled_TD[3].any()
    directions_T = functional.cosine_similarity(scaled_TD[:, :-1], vectors_TD)
    close(directions_T[[0, 1, 2, 4]], torch.ones(4))
    contrast_T = torch.linspace(-2, 2, 5)
    with_contrast_TD = SessionDetector.scaled(vectors_TD, contrast_T)
    assert torch.equal(with_contrast_TD[:, -1], contrast_T)
    assert torch.equal(with_contrast_TD[:, :-1], scaled_TD[:, :-1])


def trial(member: SessionMember, parameters: dict[str, Tensor]) -> Tensor:
    """A loss after a step of gradient descent: what meta-learning differentiates."""
    device = parameters["query"].device
    vectors_BLD, lengths_B = drawn(4, 2, 5)
    vectors_BLD = vectors_BLD.to(device, torch.float64)
    truth_B = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64, device=device)

    def loss(weights: dict[str, Tensor], truth_B: Tensor) -> Tensor:
        judged = functional_call(member, weights, (vectors_BLD, lengths_B))
        return functional.binary_cross_entropy_with_logits(judged.logits_B, truth_B)

    gradients = torch.autograd.grad(
        loss(parameters, truth_B), list(parameters.values()), create_graph=True
    )
    stepped = {
        name: value - 0.3 * gradient
        for (name, value), gradient in zip(parameters.items(), gradients, strict=True)
    }
    return loss(stepped, 1 - truth_B)


def outside(member: SessionMember, device: str = "cpu") -> dict[str, Tensor]:
    """A member's parameters as others than its own, in double precision."""
    return {
        name: value.detach().to(device, torch.float64).requires_grad_()
        for name, value in member.named_parameters()
    }


def test_a_gradient_through_a_step_equals_a_finite_difference() -> None:
    """It holds second derivatives: those of every parameter, the direct logit's included."""
    member = detector().each()[0]
    kept = {name: value.clone() for name, value in member.named_parameters()}
    parameters = outside(member)
    gradients = torch.autograd.grad(trial(member, parameters), list(parameters.values()))
    draw = torch.Generator().manual_seed(3)
    for name, gradient in zip(parameters, gradients, strict=True):
        direction = torch.randn(gradient.shape, dtype=torch.float64, generator=draw)
        direction /= direction.norm()

        def moved(by: float, name: str = name, direction: Tensor = direction) -> Tensor:
            value = (parameters[name] + by * direction).detach().requires_grad_()
            return trial(member, {**parameters, name: value}).detach()

        expected = (moved(1e-5) - moved(-1e-5)) / 2e-5
        assert gradient.norm() > 1e-6, name
        torch.testing.assert_close(
            (gradient * direction).sum(), expected, rtol=1e-5, atol=1e-8, msg=name
        )
    for name, value in member.named_parameters():
        assert torch.equal(value, kept[name])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_judges_alike() -> None:
    built = detector(members=2)
    vectors_BLD, lengths_B = drawn(*LENGTHS)
    here = built(vectors_BLD, lengths_B)
    there = built.cuda()(vectors_BLD.cuda(), lengths_B)
    assert there.logits_B.is_cuda
    torch.testing.assert_close(there.logits_B.cpu(), here.logits_B, atol=1e-3, rtol=0)
    torch.testing.assert_close(there.attention_BL.cpu(), here.attention_BL, atol=1e-3, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gradient_through_a_step_is_the_same_on_cuda() -> None:
    """cuDNN's GRU has no second derivative; torch's own has, and the same one."""
    member = detector().each()[0]
    here, there = outside(member), outside(member, "cuda")
    expected = torch.autograd.grad(trial(member, here), list(here.values()))
    with torch.backends.cudnn.flags(enabled=False):
        found = torch.autograd.grad(trial(member, there), list(there.values()))
    for name, on_cuda, on_cpu in zip(here, found, expected, strict=True):
        torch.testing.assert_close(on_cuda.cpu(), on_cpu, msg=name)
