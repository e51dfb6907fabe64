"""From which figures on something is worth an alert, and why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The figures that alerts compare with; shares are of 1, rates a second.

    What is normal differs from topic to topic, so whatever can be is compared with the topic's
    own past; the absolute figures beside it only keep trifles out.

    Attributes:
        ready_share: an agent is not ready if it was in less than this share of the window.
        restarts: more in an hour are no update, nor somebody who tries settings.
        dead_letters: fewer in the window are single broken lines, which every log has.
        dead_letter_share: beside that, of the lines read: ten of a million lines are no news, and
            on a topic of a hundred lines every tenth is.
        aborted_share: of all transactions. A leader that moves aborts one a partition, of hundreds
            in the window.
        storm_rate: anomalies a second; thirty in five minutes are what a human still reads.
        storm_factor: times the past's average. Anomalies come in bursts, twice or three times
            the average is an ordinary day.
        storm_share_factor: the share of anomalous lines must have grown, too: else there is merely
            more traffic, as at each sale or start of a working day.
        storm_season_factor: times the most at the same time of yesterday: a nightly job that is
            loud each night is no storm.
        usual: a topic usually has anomalies if it had some in this share of the past's windows
            in which lines flowed.
        silence_flow: of its usual lines, so that a topic that hardly flows may be silent.
        drift_share: the share of novel lines below which nobody would adapt a model anew.
        drift_factor: times the past's share. A topic with more than a third of novel lines as a
            rule is beyond this alert: its model was never adapted to it.
        drift_lines: lines that the window must hold at least, for a share of fewer is chance.
        cache_misses: templates encoded, of the lines read. A known template costs nothing, a new
            one milliseconds: at one line in twenty the encoder, and not Kafka, sets the pace.
        cache_factor: times the past's share.
        cache_lines: lines a second below which encoding is no burden, whatever the share.
    """

    ready_share: float = 0.5
    restarts: float = 3
    dead_letters: float = 10
    dead_letter_share: float = 0.001
    aborted_share: float = 0.05
    storm_rate: float = 0.1
    storm_factor: float = 5
    storm_share_factor: float = 2
    storm_season_factor: float = 2
    usual: float = 0.95
    silence_flow: float = 0.5
    drift_share: float = 0.05
    drift_factor: float = 3
    drift_lines: float = 1000
    cache_misses: float = 0.05
    cache_factor: float = 10
    cache_lines: float = 1
