"""All windows and waiting times of the rules, so that a test can shrink them."""

from __future__ import annotations

from dataclasses import dataclass

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86_400.0

_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))


@dataclass(frozen=True)
class Timing:
    """Windows and waiting times, in seconds.

    A window holds at least four scrapes, so that one that fails leaves enough to compute a rate.
    The history needs a retention of a little more than a week (Prometheus keeps 15 days).

    Attributes:
        rate: the window of every rate, which goes on while an agent restarts: what it told before
            counts as long as it is in the window.
        history: what counts as a topic's own past.
        history_min: how old the past must be before anything is compared with it: a day, so that
            a night is in it.
        recent: the latest part that is no past yet: what goes on now must not be its own measure.
        season: how long ago it was the same time of day.
        season_width: how exactly that is meant, half of it earlier and half later.
        down_for: a restart, with its model to load, takes under a minute; three leave room for a
            node that is drained.
        restarts: the window in which starts of an agent are counted. An hour, for what dies every
            ten minutes counts few in less.
        forgotten: for how long a topic that no agent reads any more is told of; after this, its
            agents were taken away on purpose.
        ready: the window in which an agent is ready less than half of the time. A window, and not
            the state of the moment, so that one that comes and goes is found, too.
        ready_for: the first window of an agent is half full of "not ready" for twice as long as the
            start takes, which is under a minute.
        lag: the window whose trend of the lag is carried forward, and for which the last lag holds:
            an agent that restarts tells none for a moment.
        lag_horizon: a lag that is gone after this long on the present trend is being caught up.
        lag_behind: a lag of fewer seconds of reading than this is no lag.
        lag_for: a burst that takes ten minutes to come in is caught up on from then on; with the
            window of the trend that is just shorter than this.
        moves: in this window a line must have arrived for a topic to move; slow topics have few. A
            topic that does not move, as at night, has nothing that could be anomalous.
        no_lines_for: beyond `rate`. An agent that is stuck joins the group anew after a minute by
            itself, so ten minutes in all mean that this did not help.
        dead_letters: the window in which dead letters are counted.
        aborts_for: longer than `rate`: what a broker's restart aborts has left the window by then.
        storm_for: a single failing job is over by then, an incident is not.
        silence: the window without an anomaly. Long enough for a whole night shift or a quiet
            time; silence is worth a look, not a call at night.
        silence_for: beyond `silence`.
        drift: the window of the share of novel lines. Longer than `rate`: a share of few lines
            says nothing.
        drift_for: what a new release logs once, at its start, is over by then.
        reload: for how long a refused model is told of.
        cache_for: a new release of the watched system brings new templates once; they are encoded
            within minutes.
    """

    rate: float = 5 * _MINUTE
    history: float = 7 * _DAY
    history_min: float = 1 * _DAY
    recent: float = 1 * _HOUR
    season: float = 1 * _DAY
    season_width: float = 2 * _HOUR
    down_for: float = 3 * _MINUTE
    restarts: float = 1 * _HOUR
    forgotten: float = 1 * _DAY
    ready: float = 5 * _MINUTE
    ready_for: float = 3 * _MINUTE
    lag: float = 5 * _MINUTE
    lag_horizon: float = 4 * _HOUR
    lag_behind: float = 1 * _MINUTE
    lag_for: float = 15 * _MINUTE
    moves: float = 30 * _MINUTE
    no_lines_for: float = 5 * _MINUTE
    dead_letters: float = 15 * _MINUTE
    aborts_for: float = 10 * _MINUTE
    storm_for: float = 10 * _MINUTE
    silence: float = 6 * _HOUR
    silence_for: float = 30 * _MINUTE
    drift: float = 1 * _HOUR
    drift_for: float = 30 * _MINUTE
    reload: float = 1 * _HOUR
    cache_for: float = 15 * _MINUTE


#: Everything in seconds, for a Prometheus that scrapes each second and a test that waits for it:
#: half a minute of past, and an alert that is compared with it fires for a quarter of a minute.
QUICK = Timing(
    rate=4,
    history=50,
    history_min=16,
    recent=15,
    season=120,
    season_width=4,
    down_for=1,
    restarts=50,
    forgotten=50,
    ready=4,
    ready_for=1,
    lag=4,
    lag_horizon=50,
    lag_behind=1,
    lag_for=3,
    moves=20,
    no_lines_for=1,
    dead_letters=5,
    aborts_for=1,
    storm_for=1,
    silence=5,
    silence_for=1,
    drift=4,
    drift_for=1,
    reload=5,
    cache_for=1,
)


def duration(seconds: float) -> str:
    """A time as Prometheus writes it: 5400 is `90m`, 0.5 is `500ms`."""
    milliseconds = round(seconds * 1000)
    for unit, length in _UNITS:
        if milliseconds and milliseconds % length == 0:
            return f"{milliseconds // length}{unit}"
    return "0s"
