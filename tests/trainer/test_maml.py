"""The mathematics of MAML, as learn2learn tests it."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from crosyslog.detector import LstmDetector
from crosyslog.manifest import DetectorShape
from crosyslog.threads import torch_threads
from trainer.maml import (
    Lines,
    Parameters,
    Tasks,
    adapt_parameters,
    mean_logits,
    meta_loss,
    of_tasks,
    task_losses,
)

STEPS = 3


@pytest.fixture(autouse=True)
def small_shapes() -> Iterator[None]:
    with torch_threads(1):
        yield


def tiny_parameters(seed: int = 0, members: int = 1) -> Parameters:
    torch.manual_seed(seed)
    shape = DetectorShape(dim=4, projected=3, hidden=2, members=members)
    parameters = LstmDetector(shape).double().stacked()
    # The direct logit starts at zero; a gradient through nothing would prove nothing.
    parameters["direct.weight"] = torch.randn(members, 1, 4, dtype=torch.float64) * 0.3
    return parameters


def rates_for(parameters: Parameters, rate: float = 0.5) -> Parameters:
    return {
        name: torch.full((len(value),), rate, dtype=torch.float64, device=value.device)
        for name, value in parameters.items()
    }


def tiny_lines(generator: torch.Generator, tasks: int) -> Lines:
    shape = (tasks, 2, 5)
    labels = torch.randint(0, 2, shape, generator=generator).double()
    weights = torch.rand(shape, generator=generator, dtype=torch.float64)
    return Lines(
        torch.randint(0, 6, shape, generator=generator),
        labels,
        weights / weights.sum(dim=(1, 2), keepdim=True),
    )


def tiny_tasks(tasks: int = 2, seed: int = 1) -> Tasks:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(tasks, 6, 4, generator=generator, dtype=torch.float64)
    return Tasks(vectors, tiny_lines(generator, tasks), tiny_lines(generator, tasks))


def requiring_gradients(parameters: Parameters) -> Parameters:
    return {name: value.clone().requires_grad_() for name, value in parameters.items()}


def outer_gradient(parameters: Parameters, tasks: Tasks, **options: bool | float) -> Parameters:
    leaves = requiring_gradients(parameters)
    loss = meta_loss(leaves, rates_for(parameters), tasks, steps=STEPS, **options)  # type: ignore[arg-type]
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    return dict(zip(leaves, gradients, strict=True))


def finite_differences(parameters: Parameters, tasks: Tasks, name: str, unadapted: float) -> Tensor:
    """The gradient of the outer loss by central differences, entry by entry."""
    step = 1e-5
    gradient = torch.zeros_like(parameters[name])
    for entry in range(gradient.numel()):
        sides = []
        for sign in (1, -1):
            moved = {key: value.clone() for key, value in parameters.items()}
            moved[name].view(-1)[entry] += sign * step
            loss = meta_loss(
                moved, rates_for(moved), tasks, steps=STEPS, unadapted_weight=unadapted
            )
            sides.append(loss)
        gradient.view(-1)[entry] = (sides[0] - sides[1]) / (2 * step)
    return gradient


@pytest.mark.parametrize("unadapted", [0.0, 0.3])
@pytest.mark.parametrize("name", list(tiny_parameters()))
def test_second_order_gradient_equals_finite_differences(name: str, unadapted: float) -> None:
    parameters, tasks = tiny_parameters(), tiny_tasks()
    exact = outer_gradient(parameters, tasks, unadapted_weight=unadapted)[name]
    numeric = finite_differences(parameters, tasks, name, unadapted)
    assert numeric.abs().max() > 1e-6, "this parameter has no influence: the test proves nothing"
    torch.testing.assert_close(exact, numeric, rtol=1e-5, atol=1e-8)


def test_first_order_gradient_is_the_one_at_the_adapted_weights() -> None:
    parameters, tasks = tiny_parameters(), tiny_tasks()
    first_order = outer_gradient(parameters, tasks, first_order=True)
    adapted = adapt_parameters(
        parameters, rates_for(parameters), tasks.vectors_KTD, tasks.support, steps=STEPS
    )
    leaves = requiring_gradients(adapted)
    loss = task_losses(leaves, tasks.vectors_KTD, tasks.query).mean()
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    for (name, own), at_adapted in zip(first_order.items(), gradients, strict=True):
        torch.testing.assert_close(own[0], at_adapted.sum(dim=0), msg=name)


def test_second_order_differs_from_first_order() -> None:
    parameters, tasks = tiny_parameters(), tiny_tasks()
    second = outer_gradient(parameters, tasks)
    first = outer_gradient(parameters, tasks, first_order=True)
    assert any(not torch.allclose(second[name], first[name], rtol=1e-2) for name in second)


def test_inner_loop_leaves_the_initial_weights_bit_identical() -> None:
    parameters, tasks = tiny_parameters(), tiny_tasks()
    before = {name: value.clone() for name, value in parameters.items()}
    adapted = adapt_parameters(
        parameters, rates_for(parameters), tasks.vectors_KTD, tasks.support, steps=STEPS
    )
    for name, value in parameters.items():
        assert torch.equal(value, before[name])
        assert not torch.equal(adapted[name][0], value[0]), f"{name} was not adapted"


def test_inner_steps_lower_the_loss_on_the_support() -> None:
    parameters, tasks = tiny_parameters(), tiny_tasks()
    losses = []
    for steps in (0, 1, 5):
        adapted = adapt_parameters(
            parameters, rates_for(parameters, 0.2), tasks.vectors_KTD, tasks.support, steps=steps
        )
        losses.append(task_losses(adapted, tasks.vectors_KTD, tasks.support).sum().item())
    assert losses[0] > losses[1] > losses[2]


def test_tasks_adapt_independently() -> None:
    parameters, tasks = tiny_parameters(), tiny_tasks(tasks=3)
    together = adapt_parameters(
        parameters, rates_for(parameters), tasks.vectors_KTD, tasks.support, steps=STEPS
    )
    for number in range(3):
        alone = adapt_parameters(
            parameters,
            rates_for(parameters),
            tasks.vectors_KTD[number : number + 1],
            Lines(*(part[number : number + 1] for part in tasks.support)),
            steps=STEPS,
        )
        for name, value in alone.items():
            torch.testing.assert_close(value[0], together[name][number], msg=name)


def one_task(tasks: Tasks, number: int) -> Tasks:
    part = slice(number, number + 1)
    return Tasks(
        tasks.vectors_KTD[part],
        Lines(*(each[part] for each in tasks.support)),
        Lines(*(each[part] for each in tasks.query)),
    )


@pytest.mark.parametrize("first_order", [False, True])
def test_gradient_of_a_batch_is_the_mean_of_each_task_alone(*, first_order: bool) -> None:
    parameters, tasks = tiny_parameters(), tiny_tasks(tasks=3)
    together = outer_gradient(parameters, tasks, first_order=first_order, unadapted_weight=0.3)
    alone = [
        outer_gradient(
            parameters, one_task(tasks, number), first_order=first_order, unadapted_weight=0.3
        )
        for number in range(3)
    ]
    for name, value in together.items():
        mean = torch.stack([gradient[name] for gradient in alone]).mean(dim=0)
        torch.testing.assert_close(value, mean, msg=name)


def member(values: Parameters, number: int) -> Parameters:
    return {name: value[number : number + 1] for name, value in values.items()}


@pytest.mark.parametrize("first_order", [False, True])
def test_members_train_side_by_side_as_each_alone(*, first_order: bool) -> None:
    parameters, tasks = tiny_parameters(members=2), tiny_tasks(tasks=4)
    together = outer_gradient(parameters, tasks, first_order=first_order, unadapted_weight=0.3)
    for number, part in enumerate((slice(0, 2), slice(2, 4))):
        own = Tasks(
            tasks.vectors_KTD[part],
            Lines(*(each[part] for each in tasks.support)),
            Lines(*(each[part] for each in tasks.query)),
        )
        alone = outer_gradient(
            member(parameters, number), own, first_order=first_order, unadapted_weight=0.3
        )
        for name, value in alone.items():
            torch.testing.assert_close(together[name][number], value[0], msg=name)


def test_the_mean_of_members_is_that_of_each_alone_on_the_same_tasks() -> None:
    parameters, tasks = tiny_parameters(members=2), tiny_tasks(tasks=3)
    rates = rates_for(parameters)
    rates["direct.weight"] = torch.tensor([0.1, 0.9], dtype=torch.float64)

    def logits(parameters: Parameters, rates: Parameters) -> Tensor:
        return mean_logits(
            parameters,
            rates,
            tasks.vectors_KTD,
            tasks.support,
            tasks.query.rows_KBL,
            steps=STEPS,
        )

    each = [logits(member(parameters, number), member(rates, number)) for number in range(2)]
    assert not torch.allclose(each[0], each[1])
    torch.testing.assert_close(logits(parameters, rates), (each[0] + each[1]) / 2)


def test_in_single_precision_two_tasks_adapt_as_each_alone() -> None:
    """As they are trained: within 1e-5, beside the double precision of the other tests."""
    parameters = {name: value.float() for name, value in tiny_parameters().items()}
    rates = {name: value.float() for name, value in rates_for(parameters).items()}
    double = tiny_tasks(tasks=2)
    tasks = Tasks(
        double.vectors_KTD.float(),
        *(
            Lines(lines.rows_KBL, lines.labels_KBL.float(), lines.weights_KBL.float())
            for lines in (double.support, double.query)
        ),
    )
    together = adapt_parameters(parameters, rates, tasks.vectors_KTD, tasks.support, steps=STEPS)
    for number in range(2):
        task = one_task(tasks, number)
        alone = adapt_parameters(parameters, rates, task.vectors_KTD, task.support, steps=STEPS)
        for name, value in alone.items():
            assert value.dtype == torch.float32
            torch.testing.assert_close(
                value[0], together[name][number], rtol=1e-5, atol=1e-5, msg=name
            )


def test_a_permutation_of_the_tasks_permutes_the_results() -> None:
    parameters, tasks = tiny_parameters(), tiny_tasks(tasks=3)
    order = torch.tensor([2, 0, 1])
    permuted = Tasks(
        tasks.vectors_KTD[order],
        Lines(*(part[order] for part in tasks.support)),
        Lines(*(part[order] for part in tasks.query)),
    )
    ours, theirs = (
        adapt_parameters(
            parameters, rates_for(parameters), some.vectors_KTD, some.support, steps=STEPS
        )
        for some in (tasks, permuted)
    )
    for name, value in ours.items():
        assert not torch.allclose(value[0], value[1]), f"{name}: the tasks do not differ"
        torch.testing.assert_close(theirs[name], value[order], msg=name)
    gradients = outer_gradient(parameters, tasks)
    for name, value in outer_gradient(parameters, permuted).items():
        torch.testing.assert_close(value, gradients[name], msg=name)


def on_meta(value: Tensor) -> Tensor:
    return value.detach().to("meta")


@pytest.mark.parametrize("first_order", [False, True])
def test_every_tensor_is_made_where_its_inputs_are(*, first_order: bool) -> None:
    """A tensor made on the CPU, beside inputs that are elsewhere, is refused by torch."""
    parameters, tasks = tiny_parameters(), tiny_tasks()
    leaves = {name: on_meta(value).requires_grad_() for name, value in parameters.items()}
    rates = {name: on_meta(value).requires_grad_() for name, value in rates_for(leaves).items()}
    elsewhere = Tasks(
        on_meta(tasks.vectors_KTD),
        Lines(*map(on_meta, tasks.support)),
        Lines(*map(on_meta, tasks.query)),
    )
    loss = meta_loss(
        leaves, rates, elsewhere, steps=STEPS, first_order=first_order, unadapted_weight=0.3
    )
    gradients = torch.autograd.grad(loss, [*leaves.values(), *rates.values()])
    assert {value.device.type for value in (loss, *gradients)} == {"meta"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gradient_through_the_inner_loop_is_the_same_on_cuda() -> None:
    """cuDNN's LSTM has no second derivative; the detector's own cell has, and the same one."""
    parameters, tasks = tiny_parameters(), tiny_tasks()
    here = outer_gradient(parameters, tasks)
    there = outer_gradient(
        {name: value.cuda() for name, value in parameters.items()},
        Tasks(
            tasks.vectors_KTD.cuda(),
            Lines(*(part.cuda() for part in tasks.support)),
            Lines(*(part.cuda() for part in tasks.query)),
        ),
    )
    for name, value in here.items():
        torch.testing.assert_close(there[name].cpu(), value, msg=name)


def operations_of(value: Tensor) -> set[str]:
    """The names of all operations that a tensor was computed with."""
    names, waiting, seen = set(), [value.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        names.add(node.name())
        waiting += [before for before, _ in node.next_functions]
    return names


def test_no_fused_lstm_is_in_the_way_of_a_second_derivative() -> None:
    """A kernel of cuDNN, MKL-DNN or torch's own cell may have no derivative of its derivative."""
    parameters, tasks = requiring_gradients(tiny_parameters()), tiny_tasks()
    loss = meta_loss(parameters, rates_for(parameters), tasks, steps=STEPS)
    names = operations_of(loss)
    assert any("Tanh" in name for name in names)
    assert not [name for name in names if "rnn" in name.lower() or "lstm" in name.lower()]


def test_rates_get_a_gradient_through_the_inner_loop() -> None:
    parameters, tasks = tiny_parameters(), tiny_tasks()
    rates = requiring_gradients(rates_for(parameters))
    meta_loss(parameters, rates, tasks, steps=STEPS).backward()  # type: ignore[no-untyped-call]
    for name, rate in rates.items():
        assert rate.grad is not None, name
        assert rate.grad != 0, name


def test_lines_of_weight_zero_at_the_end_change_nothing() -> None:
    parameters, tasks = tiny_parameters(), tiny_tasks()
    padded = Lines(
        torch.nn.functional.pad(tasks.support.rows_KBL, (0, 4)),
        torch.nn.functional.pad(tasks.support.labels_KBL, (0, 4), value=1.0),
        torch.nn.functional.pad(tasks.support.weights_KBL, (0, 4)),
    )
    expanded = of_tasks(parameters, 2)
    torch.testing.assert_close(
        task_losses(expanded, tasks.vectors_KTD, padded),
        task_losses(expanded, tasks.vectors_KTD, tasks.support),
    )
