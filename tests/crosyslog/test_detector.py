from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from crosyslog.detector import LstmDetector, detector_logits
from crosyslog.manifest import DetectorShape
from crosyslog.threads import torch_threads

if TYPE_CHECKING:
    from collections.abc import Iterator

#: K tasks, each of B windows of L lines out of T templates.
K, B, L, T = 2, 3, 11, 5


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with torch_threads(1):
        yield


def detector(dim: int = 8, seed: int = 0, members: int = 1) -> LstmDetector:
    torch.manual_seed(seed)
    built = LstmDetector(DetectorShape(dim=dim, projected=4, hidden=3, members=members))
    built.mean.normal_()
    built.scale.uniform_(0.5, 2)
    return built.eval().requires_grad_(requires_grad=False)


def drawn(dim: int = 8, seed: int = 1) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    vectors_KTD = torch.randn(K, T, dim, generator=draw)
    return vectors_KTD, torch.randint(T, (K, B, L), generator=draw)


def parameters(*detectors: LstmDetector) -> dict[str, Tensor]:
    several = [one.stacked() for one in detectors]
    return {name: torch.cat([one[name] for one in several]) for name in several[0]}


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_both_forms_compute_the_same_with_each_task_its_own_parameters() -> None:
    detectors = [detector(seed=seed) for seed in range(K)]
    vectors_KTD, rows_KBL = drawn()
    expected_KBL = torch.stack(
        [
            one(one.project_templates(vectors_TD)[rows_BL])
            for one, vectors_TD, rows_BL in zip(detectors, vectors_KTD, rows_KBL, strict=True)
        ]
    )
    mean_K1D = torch.stack([one.mean for one in detectors]).unsqueeze(1)
    scale_K1D = torch.stack([one.scale for one in detectors]).unsqueeze(1)
    standardised_KTD = (vectors_KTD - mean_K1D) / scale_K1D
    assert expected_KBL.shape == (K, B, L)
    assert expected_KBL.std() > 0.02
    close(detector_logits(parameters(*detectors), standardised_KTD, rows_KBL), expected_KBL)


def test_a_line_depends_on_those_before_it_alone() -> None:
    built = detector()
    vectors_KTD, rows_KBL = drawn()
    projected_BLP = built.project_templates(vectors_KTD[0])[rows_KBL[0]]
    before_BL = built(projected_BLP)
    both = parameters(built, built)
    before_KBL = detector_logits(both, vectors_KTD, rows_KBL)
    for line in range(L):
        changed_BLP = projected_BLP.clone()
        changed_BLP[:, line] += 3
        after_BL = built(changed_BLP)
        close(after_BL[:, :line], before_BL[:, :line])
        assert (after_BL[:, line] - before_BL[:, line]).abs().amax() > 1e-4
        changed_KBL = rows_KBL.clone()
        changed_KBL[:, :, line] = (rows_KBL[:, :, line] + 1) % T
        after_KBL = detector_logits(both, vectors_KTD, changed_KBL)
        close(after_KBL[:, :, :line], before_KBL[:, :, :line])
        assert (after_KBL[:, :, line:] - before_KBL[:, :, line:]).abs().amax() > 1e-4


def test_a_line_depends_on_those_before_it() -> None:
    built = detector()
    vectors_KTD, rows_KBL = drawn()
    projected_BLP = built.project_templates(vectors_KTD[0])[rows_KBL[0]]
    changed_BLP = projected_BLP.clone()
    changed_BLP[:, 0] += 3
    assert (built(changed_BLP)[:, 1] - built(projected_BLP)[:, 1]).abs().amax() > 1e-4


def test_members_say_their_mean() -> None:
    built = detector(members=3)
    vectors_KTD, rows_KBL = drawn()
    stacked = built.stacked()
    standardised_TD = (vectors_KTD[0] - built.mean) / built.scale
    each_MBL = detector_logits(
        stacked, standardised_TD.expand(3, -1, -1), rows_KBL[0].expand(3, -1, -1)
    )
    assert (each_MBL[0] - each_MBL[1]).abs().amax() > 0.01
    templates_TC = built.project_templates(vectors_KTD[0])
    assert templates_TC.shape[1] == built.columns
    close(built(templates_TC[rows_KBL[0]]), each_MBL.mean(dim=0))
    other = detector(seed=5, members=3)
    other.load_stacked(stacked)
    for name, value in other.stacked().items():
        assert torch.equal(value, stacked[name])


def test_windows_do_not_see_each_other() -> None:
    built = detector()
    vectors_KTD, rows_KBL = drawn()
    projected_BLP = built.project_templates(vectors_KTD[0])[rows_KBL[0]]
    alone_BL = torch.cat([built(window_LP.unsqueeze(0)) for window_LP in projected_BLP])
    close(built(projected_BLP), alone_BL)


def test_it_can_be_differentiated_twice() -> None:
    built = parameters(detector(dim=2).double())
    weights = [tensor.clone().requires_grad_() for tensor in built.values()]
    draw = torch.Generator().manual_seed(2)
    vectors_KTD = torch.randn(1, 2, 2, dtype=torch.float64, generator=draw)
    rows_KBL = torch.tensor([[[0, 1, 1]]])

    def logits(*tensors: Tensor) -> Tensor:
        return detector_logits(dict(zip(built, tensors, strict=True)), vectors_KTD, rows_KBL)

    assert torch.autograd.gradcheck(logits, weights)
    assert torch.autograd.gradgradcheck(logits, weights)


def test_it_can_be_batched_once_more() -> None:
    vectors_KTD, rows_KBL = drawn()
    several = [parameters(detector(seed=n), detector(seed=n + 1)) for n in range(3)]
    stacked = {name: torch.stack([one[name] for one in several]) for name in several[0]}
    batched = torch.func.vmap(detector_logits, in_dims=(0, None, None))
    expected = torch.stack([detector_logits(one, vectors_KTD, rows_KBL) for one in several])
    close(batched(stacked, vectors_KTD, rows_KBL), expected)
