"""Meta-training of networks that judge sessions, and the choice among what it comes by.

Shapes: N sessions to learn from, B of a batch, L lines of the longest, T texts, D dimensions,
M members.
"""

from __future__ import annotations

import copy
import itertools
import os
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from crosyslog.errors import LabelError, SettingError
from crosyslog.logits import score_of
from crosyslog.manifest import SessionShape, Threshold
from crosyslog.session_detector import SessionDetector
from crosyslog.session_scorer import judge_sessions, padded_rows
from trainer.config_files import LARGEST_SEED
from trainer.sessions.estimates import Estimates
from trainer.sessions.metrics import Found, best_threshold
from trainer.sessions.two_steps import Batch, batch_loss, two_step_loss

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from crosyslog.session_detector import SessionMember
    from trainer.sessions.corpus import SessionCorpus

Work = TypeVar("Work")
Done = TypeVar("Done")

#: Of a longer session, so many lines in a row are learnt from, from a place drawn each time.
_LONGEST_LEARNT = 100

#: Ctrl-C is heeded within this time while members are trained.
_HEARING_SECONDS = 0.1

#: A member's gradient is shortened to this.
_LONGEST_GRADIENT = 5.0


class SessionConfig(BaseModel):
    """The settings of meta-training for sessions; `trainer train --config` reads them as TOML.

    Attributes:
        vectors: of templates: by the encoder, or of their words, weighted by TF-IDF.
        hidden: units of a layer of the GRU, each way.
        layers: of the GRU.
        members: networks that are trained from other initial weights, and whose logits are
            averaged.
        steps: of the training.
        batch: sessions of a step, as many of the source as of the target.
        trial_rate: size of the trial step on the source; 0 leaves it out, and with it what makes
            the training a meta-learning.
        beta: how much the target's loss counts beside the source's.
        first_order: leave out the second derivatives, which take as long again.
        dropout: the share of a vector's dimensions that a session is shown without.
        rate: largest size of a step (AdamW, one cycle).
        weight_decay: of AdamW.
        kept: so many states of a training are kept, evenly spread, for the choice among them.
        adaptation_steps: with which a base adapts to a target.
        seed: of all chance.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    vectors: Literal["sentences", "words"] = "sentences"
    hidden: Annotated[int, Field(ge=1, le=4096)] = 100
    layers: Annotated[int, Field(ge=1, le=8)] = 2
    members: Annotated[int, Field(ge=1, le=16)] = 4
    steps: PositiveInt = 60
    batch: Annotated[int, Field(ge=2, le=4096)] = 32
    trial_rate: Annotated[float, Field(ge=0, le=100)] = 0.01
    beta: Annotated[float, Field(gt=0, le=1000)] = 1.0
    first_order: bool = True
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.7
    rate: Annotated[float, Field(gt=0, le=1)] = 2e-3
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 1e-4
    kept: PositiveInt = 12
    adaptation_steps: PositiveInt = 40
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] = 0

    def shape(self, dim: int) -> SessionShape:
        """The networks' form, for vectors of so many dimensions."""
        return SessionShape(
            dim=dim,
            vectors=self.vectors,
            hidden=self.hidden,
            layers=self.layers,
            members=self.members,
        )


@dataclass(frozen=True)
class Lessons:
    """Sessions to learn from.

    Attributes:
        corpus: of their system.
        sessions: which of its sessions, [N].
        estimates: what they are taken for.
    """

    corpus: SessionCorpus
    sessions: NDArray[np.int64]
    estimates: Estimates

    def shares(self) -> NDArray[np.float64]:
        """How often each is drawn, [N]: half of all draws are anomalous, as far as that is known.

        Raises:
            LabelError: there is nothing to draw.
        """
        anomalous, weights = (part.astype(np.float64) for part in self.estimates)
        parts = [weights * anomalous, weights * (1 - anomalous)]
        known = [part / part.sum() for part in parts if part.sum() > 0]
        if not known:
            raise LabelError(f"{self.corpus.name} has no session to learn from")
        return np.asarray(sum(known) / len(known))


class Held(NamedTuple):
    """Labelled sessions that are not learnt from: a choice is made on them.

    Attributes:
        corpus: of their system.
        sessions: which of its sessions.
    """

    corpus: SessionCorpus
    sessions: NDArray[np.int64]

    @property
    def labels(self) -> NDArray[np.bool_]:
        """Whether each is anomalous."""
        return np.asarray(self.corpus.labels[self.sessions] == 1)


@dataclass(frozen=True)
class State:
    """What a training has come to.

    Attributes:
        step: after which.
        detector: with the weights of then.
    """

    step: int
    detector: SessionDetector


class Chosen(NamedTuple):
    """A state that was chosen.

    Attributes:
        state: it.
        threshold: that goes with it.
        average_precision: on the sessions that it was chosen on, a mean over their systems.
        f1: there, with the threshold.
    """

    state: State
    threshold: Threshold
    average_precision: float
    f1: float


def meta_train(
    sources: Sequence[Lessons],
    target: Lessons | None,
    config: SessionConfig,
    progress: Callable[[int, float], None] | None = None,
) -> list[State]:
    """Trains networks on sources so that it helps on a target.

    Without a target, the sources take its part in turn; with a single one, the one half of its
    sessions that of the other.

    Args:
        sources: of the labelled systems.
        target: the few labelled sessions of the target, and the others with estimated labels.
        config: the settings.
        progress: called with the number of steps done, of all members together, and the loss.

    Returns:
        The states that were kept, the last one of them the training's end.

    Raises:
        LabelError: a system has nothing to learn from.
        SettingError: with these settings, the training does not come to anything.
    """
    shape = config.shape(sources[0].corpus.vectors.shape[1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        detector = SessionDetector(shape)
    pairs = _pairs(sources, target, np.random.default_rng(config.seed))

    def loss_of(member: SessionMember, step: int, rng: np.random.Generator) -> Tensor:
        source, other = pairs[step % len(pairs)]
        return two_step_loss(
            member,
            dict(member.named_parameters()),
            source.draw(config.batch, config.dropout, rng),
            other.draw(config.batch, config.dropout, rng),
            rate=config.trial_rate,
            beta=config.beta,
            first_order=config.first_order,
        )

    return _train(detector, loss_of, config, config.steps, progress)


def adapt_states(base: SessionDetector, target: Lessons, config: SessionConfig) -> list[State]:
    """Trains a base's networks on a target alone; the first state is the base itself.

    Args:
        base: its detector, which stays as it is.
        target: what is to be learnt.
        config: those of the base, for what they say of steps.

    Raises:
        LabelError: there is nothing to learn from.
    """
    drawing = _Drawing(target)

    def loss_of(member: SessionMember, step: int, rng: np.random.Generator) -> Tensor:
        del step
        batch = drawing.draw(config.batch, config.dropout, rng)
        return batch_loss(member, dict(member.named_parameters()), batch)

    states = _train(copy.deepcopy(base), loss_of, config, config.adaptation_steps, None)
    return [State(0, copy.deepcopy(base)), *states]


def choose(states: Sequence[State], held: Sequence[Held], what: str) -> Chosen:
    """The state with the best average precision on labelled sessions, and its best threshold.

    Args:
        states: to choose among; of equals, the earliest.
        held: by system, each of which counts as much as another.
        what: these sessions are, for the manifest.
    """

    def judged(state: State) -> Found:
        logits = [logits_of(state, one.corpus, one.sessions) for one in held]
        return best_threshold(logits, [one.labels for one in held])

    best: Chosen | None = None
    for state, found in zip(states, side_by_side(judged, states), strict=True):
        if best is None or found.average_precision > best.average_precision:
            value = score_of(found.threshold)
            threshold = Threshold(value=value, chosen=f"best F1 on {what}")
            best = Chosen(state, threshold, found.average_precision, found.f1)
    assert best is not None  # noqa: S101 - there is a state
    return best


def logits_of(
    state: State, corpus: SessionCorpus, sessions: NDArray[np.int64]
) -> NDArray[np.float32]:
    """What a state says of some sessions, in their order."""
    rows = corpus.rows.chosen(sessions)
    return judge_sessions(state.detector, corpus.vectors, rows, corpus.contrast)[0]


def side_by_side(
    do: Callable[[Work], Done], every: Sequence[Work], left: threading.Event | None = None
) -> list[Done]:
    """Does several things at once, one to a core.

    A GRU's steps are too small for several threads, but most of their time is spent outside of
    Python: on two cores, two members were trained in the time of one.

    Args:
        do: what is to be done.
        every: with what.
        left: set when all is done, or is in vain: after an error, or Ctrl-C.

    Returns:
        What came out, in the order of `every`.

    Raises:
        Exception: the first that `do` raised.
    """
    with ThreadPoolExecutor(min(len(every), len(os.sched_getaffinity(0)))) as threads:
        try:
            doing = [threads.submit(do, one) for one in every]
            # With a timeout, again and again: polars lets system calls go on after a signal, and
            # a wait without an end would never hear of Ctrl-C.
            while wait(doing, _HEARING_SECONDS, FIRST_EXCEPTION).not_done:
                for one in doing:
                    if one.done():
                        one.result()  # raises what it raised
            return [one.result() for one in doing]
        finally:
            if left is not None:
                left.set()
            threads.shutdown(wait=False, cancel_futures=True)


class _Drawing:
    """Draws batches of some lessons."""

    def __init__(self, lessons: Lessons) -> None:
        self._lessons = lessons
        self._shares = lessons.shares()
        corpus = lessons.corpus
        contrast_T = None if corpus.contrast is None else torch.from_numpy(corpus.contrast)
        self._scaled_TD = SessionDetector.scaled(torch.from_numpy(corpus.vectors), contrast_T)

    def draw(self, count: int, dropout: float, rng: np.random.Generator) -> Batch:
        """A batch of so many sessions, which may repeat.

        Of each, a share of the dimensions of its vectors is left out, the same for all its lines:
        what is learnt may not rest on a few of them.
        """
        lessons = self._lessons
        drawn = rng.choice(len(self._shares), count, p=self._shares)
        lines = [lessons.corpus.rows.of(session) for session in lessons.sessions[drawn].tolist()]
        padded, lengths = padded_rows([_cut(one, rng) for one in lines])
        vectors_BLD = self._scaled_TD[torch.from_numpy(padded)]
        if dropout:
            kept = rng.random((count, 1, vectors_BLD.shape[2] - 1), dtype=np.float32) >= dropout
            vectors_BLD[..., :-1] *= torch.from_numpy(kept / np.float32(1 - dropout))
        return Batch(
            vectors_BLD,
            lengths,
            torch.from_numpy(lessons.estimates.anomalous[drawn]),
            torch.ones(count),
        )


def _pairs(
    sources: Sequence[Lessons], target: Lessons | None, rng: np.random.Generator
) -> list[tuple[_Drawing, _Drawing]]:
    """Which systems a step learns from, and on which it tries what that helps."""
    if target is not None:
        other = _Drawing(target)
        return [(_Drawing(source), other) for source in sources]
    if len(sources) == 1:
        one, other = map(_Drawing, _halves(sources[0], rng))
        return [(one, other), (other, one)]
    drawings = [_Drawing(source) for source in sources]
    return [(source, other) for source in drawings for other in drawings if other is not source]


def _halves(lessons: Lessons, rng: np.random.Generator) -> list[Lessons]:
    """The lessons in two, each with sessions of both kinds; where there is but one, twice all."""
    anomalous = lessons.estimates.anomalous
    if min((anomalous > 0).sum(), (anomalous < 1).sum()) < 2:
        return [lessons, lessons]
    half = np.zeros(len(anomalous), dtype=np.bool_)
    half[np.lexsort((rng.random(len(anomalous)), anomalous))[::2]] = True
    return [
        Lessons(
            lessons.corpus,
            lessons.sessions[part],
            Estimates(*(estimate[part] for estimate in lessons.estimates)),
        )
        for part in (half, ~half)
    ]


def _train(
    detector: SessionDetector,
    loss_of: Callable[[SessionMember, int, np.random.Generator], Tensor],
    config: SessionConfig,
    steps: int,
    progress: Callable[[int, float], None] | None,
) -> list[State]:
    """Trains members side by side, one to a core, and keeps states of them all at the same steps.

    Each draws from a generator of its own: what comes out depends on the seed alone.
    """
    kept = sorted({round(steps * (place + 1) / config.kept) for place in range(config.kept)} - {0})
    states = [State(step, copy.deepcopy(detector)) for step in kept]
    detector.train()
    members = detector.each()
    done, told, stopped = itertools.count(1), threading.Lock(), threading.Event()

    def train(one: tuple[int, np.random.Generator]) -> None:
        number, rng = one
        for step, loss in _member_steps(members[number], loss_of, config, steps, rng):
            if stopped.is_set():
                return
            if progress is not None:
                with told:
                    progress(next(done), loss)
            for state in states:
                if state.step == step:
                    state.detector.each()[number].load_state_dict(members[number].state_dict())

    draws = np.random.default_rng(config.seed).spawn(len(members))
    side_by_side(train, list(enumerate(draws)), stopped)
    for state in states:
        state.detector.eval().requires_grad_(requires_grad=False)
    return states


def _member_steps(
    member: SessionMember,
    loss_of: Callable[[SessionMember, int, np.random.Generator], Tensor],
    config: SessionConfig,
    steps: int,
    rng: np.random.Generator,
) -> Iterator[tuple[int, float]]:
    """Trains one member; yields the steps done and the loss of the last."""
    member.requires_grad_(requires_grad=True)
    optimiser = torch.optim.AdamW(
        member.parameters(), lr=config.rate, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=config.rate, total_steps=max(steps, 2)
    )
    for step in range(steps):
        loss = loss_of(member, step, rng)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(member.parameters(), _LONGEST_GRADIENT)
        if not torch.isfinite(norm + loss.detach()):
            raise SettingError(
                f"the training came to nothing at step {step + 1}: its loss or gradient is no "
                f"number; make rate={config.rate:g} or trial_rate={config.trial_rate:g} smaller"
            )
        optimiser.step()
        schedule.step()
        yield step + 1, float(loss.detach())


def _cut(lines: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """A part of a long session, from a place that is drawn."""
    if len(lines) <= _LONGEST_LEARNT:
        return lines
    start = int(rng.integers(len(lines) - _LONGEST_LEARNT + 1))
    return lines[start : start + _LONGEST_LEARNT]
