"""Asking somebody for the labels that teach most: rounds, what was answered, what is covered.

Each round asks for `ROUND` templates: up to two labels again that the others contradict, then
new ones by `trainer.asking.next_round`. Its questions depend on the answers before it alone, so
that whoever comes back finds the same ones.

Shapes: T templates of the history, D dimensions of a vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from crosyslog.evidence_network import EvidenceDetector
from crosyslog.logits import sigmoid
from crosyslog.words import found_alert_words
from trainer.adaptation import novel_below
from trainer.asking import ROUND, contradicted, model_of, next_round
from trainer.labelled_logs import vectors_of
from trainer.self_estimate import left_out_rates
from trainer.template_labels import Answer, word_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from crosyslog.bundle import Bundle
    from trainer.self_estimate import Rate
    from trainer.template_labels import Answers, GivenAnswers
    from trainer.whole_logs import WholeLog

#: Templates that can be asked for, the most frequent ones; choosing among them takes a second, and
#: the square of it.
MOST_CANDIDATES = 5_000

#: Labels that a round asks for again: a tenth.
_AGAIN = ROUND // 10


class Question(NamedTuple):
    """A template whose label is asked for.

    Attributes:
        row: of the template in the history.
        template: masked text.
        lines: of the history that have it.
        score: the model's, as if it had no label.
        before: the label that the others contradict, if it is asked for again.
    """

    row: int
    template: str
    lines: int
    score: float
    before: bool | None


@dataclass(frozen=True)
class Coverage:
    """How much of a history the labels speak of, as shares of its lines.

    Attributes:
        labelled: their template has a label.
        alike: it has one, or is much like one that has.
    """

    labelled: float
    alike: float


@dataclass(frozen=True)
class Progress:
    """Where the labelling stands.

    Attributes:
        normal: templates called so.
        alerts: templates called so.
        unsure: templates of which nobody could tell.
        coverage: of the history.
        precision: of the model on labelled templates, each left out in turn; none before both
            labels were given.
        recall: the same.
        contradicted: templates whose label the others contradict, with that label, the most
            doubtful first.
    """

    normal: int
    alerts: int
    unsure: int
    coverage: Coverage
    precision: Rate | None
    recall: Rate | None
    contradicted: Sequence[tuple[str, bool]]


class _Said(NamedTuple):
    """What the model says after some answers.

    Attributes:
        labels: by row.
        scores: of each template as if it had no label, [T].
    """

    labels: Mapping[int, bool]
    scores: NDArray[np.float32]


class Labelling:
    """A history that labels are asked of."""

    def __init__(
        self,
        templates: Sequence[str],
        vectors: NDArray[np.float32],
        lines: NDArray[np.int64],
        total: int,
        base: Bundle,
        answers: Answers,
    ) -> None:
        """Takes a history as it stands.

        Args:
            templates: those that can be asked for, and all that have an answer.
            vectors: of these, [T, D].
            lines: of each in the history, which may be none, [T].
            total: lines of the history.
            base: of the detector `evidence`: what guesses.
            answers: given so far.
        """
        self.answers = answers
        self._templates, self._vectors, self._lines = templates, vectors, lines
        self._total, self._base = total, base
        self._row = {template: row for row, template in enumerate(templates)}
        self._model = model_of(base, templates, vectors)
        self._known: dict[tuple[Answer, ...], _Said] = {}
        self._rounds: dict[tuple[int, tuple[Answer, ...]], list[Question]] = {}

    @property
    def round(self) -> int:
        """The round that is asked at present, from 1."""
        number = max(self.answers.round, 1)
        return number if self._open(number) else number + 1

    def questions(self) -> list[Question]:
        """Those of the present round that have no answer yet; none once all templates have one."""
        return self._open(self.round)

    def answer(self, question: Question, alert: bool | None) -> None:
        """Keeps an answer; none where it cannot be told.

        Raises:
            StoreError: it cannot be written.
        """
        self.answers.add([Answer(question.template, alert, self.round)])

    def guess(self, question: Question) -> bool:
        """Whether the model takes a template for an alert."""
        return question.score >= self._base.manifest.threshold.value

    def share(self, question: Question) -> float:
        """Of the lines of the history, how many have the template."""
        return question.lines / self._total

    def undo(self) -> bool:
        """Takes the last answer back; false if there is none that was given to a question.

        Raises:
            StoreError: the answers cannot be written.
        """
        given = self.answers.given
        if not given or not given[-1].round:
            return False
        self.answers.undo()
        return True

    def suggestions(self, size: int) -> list[Question]:
        """As many templates as are wanted, for somebody who answers them all at once."""
        return self._new(self.answers, size)

    def progress(self) -> Progress:
        """Where the labelling stands."""
        said = self._said(self.answers)
        given = list(self.answers.last().values())
        rows = np.array(list(said.labels), dtype=np.int64)
        alert = np.array(list(said.labels.values()), dtype=np.bool_)
        precision = recall = None
        if alert.any() and not alert.all():
            threshold = self._base.manifest.threshold.value
            precision, recall = left_out_rates(said.scores[rows], alert, threshold)
        doubtful = contradicted(said.labels, said.scores, len(rows))
        return Progress(
            given.count(False),
            given.count(True),
            given.count(None),
            self._coverage(rows),
            precision,
            recall,
            [(self._templates[row], said.labels[row]) for row in doubtful],
        )

    def reason(self, question: Question) -> str:
        """What makes the model guess as it does, in a few words."""
        parts = []
        labels = {
            self._row[template]: alert
            for template, alert in self.answers.labels().items()
            if self._row[template] != question.row
        }
        vector = self._vectors[question.row]
        if labels:
            rows = np.array(list(labels), dtype=np.int64)
            similarity = self._vectors[rows] @ vector
            nearest = int(np.argmax(similarity))
            row = int(rows[nearest])
            label = word_of(labels[row])
            parts.append(f"{similarity[nearest]:.2f} like `{self._templates[row]}` ({label})")
        elif self._base.support.height:
            similarity = self._base.support_vectors @ vector
            nearest = int(np.argmax(similarity))
            known = self._base.support.row(nearest, named=True)
            label = "an alert" if known["alert"] else "normal lines"
            parts.append(f"{similarity[nearest]:.2f} like {label} of {known['source']}")
        if words := found_alert_words(question.template):
            parts.append(f"says {', '.join(words)}")
        return "; ".join(parts)

    def _open(self, number: int) -> list[Question]:
        """The questions of a round that have no answer in it."""
        earlier = tuple(self.answers.before(number).given)
        if (number, earlier) not in self._rounds:
            # The last round, which is done, is looked at beside the present one.
            kept = list(self._rounds.items())[-1:]
            self._rounds = dict([*kept, ((number, earlier), self._asked(number))])
        done = {answer.template for answer in self.answers.given if answer.round == number}
        asked = self._rounds[number, earlier]
        return [question for question in asked if question.template not in done]

    def _asked(self, number: int) -> list[Question]:
        """The questions of a round."""
        before = self.answers.before(number)
        said = self._said(before)
        again: list[Question] = []
        for row in contradicted(said.labels, said.scores, len(said.labels)):
            if before.times(self._templates[row]) == 1 and len(again) < _AGAIN:
                again.append(self._question(row, said, said.labels[row]))
        return again + self._new(before, ROUND - len(again))

    def _new(self, answers: GivenAnswers, size: int) -> list[Question]:
        """Questions about templates without any answer."""
        said = self._said(answers)
        taken = {self._row[template]: bool(alert) for template, alert in answers.last().items()}
        scores = said.scores if said.labels else None
        rows = next_round(self._vectors, self._lines, taken, scores, size)
        return [self._question(row, said, None) for row in rows.tolist() if self._lines[row]]

    def _question(self, row: int, said: _Said, before: bool | None) -> Question:
        score = float(said.scores[row])
        return Question(row, self._templates[row], int(self._lines[row]), score, before)

    def _said(self, answers: GivenAnswers) -> _Said:
        """What the model says after some answers; the last few are remembered."""
        key = tuple(answers.given)
        if key not in self._known:
            labels = {self._row[name]: alert for name, alert in answers.labels().items()}
            scores = self._model(labels) if labels else self._unlabelled
            self._known = dict([*list(self._known.items())[-1:], (key, _Said(labels, scores))])
        return self._known[key]

    @cached_property
    def _unlabelled(self) -> NDArray[np.float32]:
        """What the base says by its sources alone, [T]."""
        detector = self._base.detector
        assert isinstance(detector, EvidenceDetector)  # noqa: S101 - the caller has looked
        return sigmoid(detector.template_columns(self._templates, self._vectors)[:, 0])

    def _coverage(self, rows: NDArray[np.int64]) -> Coverage:
        if not len(rows):
            return Coverage(0.0, 0.0)
        labelled = self._lines[rows].sum() / self._total
        nearest = (self._vectors @ self._vectors[rows].T).max(axis=1)
        alike = self._lines[nearest >= novel_below(self._vectors[rows])].sum() / self._total
        return Coverage(float(labelled), float(max(alike, labelled)))


def labelling_of(log: WholeLog, base: Bundle, answers: Answers) -> Labelling:
    """The labelling of a log; templates that no cache knows are encoded.

    Args:
        log: whose templates can be asked for, the `MOST_CANDIDATES` most frequent ones.
        base: of the detector `evidence`.
        answers: given so far, about templates of this log or another.

    Raises:
        EncoderError: the base's encoder is not here, or the log was prepared with another one.
    """
    numbers = {template: row for row, template in enumerate(log.templates)}
    given = answers.last()
    counts = log.counts
    frequent = np.argsort(-counts, kind="stable")[:MOST_CANDIDATES]
    answered = [numbers[template] for template in given if template in numbers]
    rows = np.union1d(frequent, np.array(answered, dtype=np.int64))
    gone = [template for template in given if template not in numbers]
    templates = [log.templates[row] for row in rows.tolist()] + gone
    lines = np.concatenate((counts[rows], np.zeros(len(gone), dtype=np.int64)))
    vectors = vectors_of(templates, base.manifest.encoder, log.vectors)
    return Labelling(templates, vectors, lines, len(log), base, answers)
