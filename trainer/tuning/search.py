"""The search: Ray Tune runs the trials, and its scheduler ASHA stops those that fall behind.

A search that goes on tells ASHA what earlier trials found, and runs those that had not ended.
"""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, NamedTuple

import ray
from pydantic import ValidationError
from ray import tune
from ray.exceptions import RayError
from ray.tune.schedulers import ASHAScheduler

from crosyslog.errors import CrosyslogError, SettingError
from trainer.tuning.records import CHECKPOINTS, QUARTERS, SEARCH, Rung
from trainer.tuning.trial import Work, run_trial

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from trainer.protocol import Plan
    from trainer.tuning.held_out import Source
    from trainer.tuning.records import Records

#: At each rung, the better half goes on.
_REDUCTION = 2

#: Seconds between two looks at what a cluster has found.
_LOOK_S = 1.0

#: What a trial reports.
_RUNG, _ERROR = "rung", "error"


def search(
    records: Records,
    *,
    folder: Path,
    sources: Sequence[Source],
    plan: Plan,
    storage: str | None,
    progress: Callable[[int], None],
) -> None:
    """Runs the trials that have not come to their end; Ray is started already.

    Args:
        records: what is known; what is found is kept in them.
        folder: that of the search.
        sources: each is held out once.
        plan: how tasks of a held-out source are drawn.
        storage: where Tune writes; none for its own place.
        progress: told how many trials have ended.

    Raises:
        SettingError: what was found cannot be written, or Tune itself fails.
    """
    work = Work(
        sources=sources,
        plan=plan,
        settings=[trial.settings for trial in records.trials],
        known=[trial.rungs for trial in records.trials],
        folder=str(folder.resolve()),
        search=(folder / SEARCH).read_text(encoding="utf-8"),
    )

    failed: list[SettingError] = []

    def keep(found: _Found) -> None:
        try:
            keep_in_records(found)
        except SettingError as error:
            failed.append(error)
            raise

    def keep_in_records(found: _Found) -> None:
        if found.rung is not None:
            records.add(found.number, found.rung)
        if found.ended:
            records.end(found.number, error=found.error)
            shutil.rmtree(folder / CHECKPOINTS / f"{found.number:04d}", ignore_errors=True)
            progress(len(records.trials) - len(records.remaining()))

    through_client = ray.util.client.ray.is_connected()
    box = ray.remote(num_cpus=0)(_Box).remote() if through_client else None
    teller = _LocalTeller(keep) if box is None else _BoxTeller(box)
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(_trainable, work=work), {"cpu": 1}),
        param_space={"number": tune.grid_search(records.remaining())},
        tune_config=tune.TuneConfig(scheduler=_scheduler(records), reuse_actors=False),
        run_config=tune.RunConfig(storage_path=storage, verbose=0, callbacks=[teller]),
    )
    try:
        if box is None:
            tuner.fit()
        else:
            _fit_on_cluster(tuner, box, keep)
    except (tune.TuneError, RayError) as error:
        # Tune makes a traceback of whatever is raised while it is at work.
        if failed:
            raise failed[0] from error
        last = str(error).strip().rpartition("\n")[2]
        raise SettingError(f"Ray Tune has failed: {last}") from error
    if not records.remaining():
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


class _Found(NamedTuple):
    """What a trial has come to."""

    number: int
    rung: Rung | None = None
    ended: bool = False
    error: str | None = None


def _trainable(config: dict[str, Any], work: Work) -> None:
    """What Tune runs for a trial."""

    def report(rung: Rung) -> None:
        tune.report({"quarter": rung.quarter, "f1": rung.f1, _RUNG: rung.model_dump()})

    try:
        run_trial(config["number"], work, report)
    except (CrosyslogError, ValidationError, ArithmeticError, RuntimeError) as error:
        # A line in place of Tune's file with a traceback. ASHA compares nothing at the last rung.
        lines = str(error).splitlines() or [""]
        said = f"{type(error).__name__}: {lines[0]}"
        tune.report({"quarter": QUARTERS[-1], "f1": 0.0, _ERROR: said})


class _Teller(tune.Callback):  # type: ignore[misc] # ray's classes have no types
    """Passes on what Tune is told."""

    def __init__(self, tell: Callable[[_Found], Any]) -> None:
        self._tell = tell
        self._errors: dict[int, str] = {}

    def on_trial_result(self, *, trial: Any, result: dict[str, Any], **_: Any) -> None:  # noqa: ANN401 - Tune's
        """Called with each rung."""
        number = trial.config["number"]
        if _ERROR in result:
            self._errors[number] = result[_ERROR]
        elif _RUNG in result:
            self._tell(_Found(number, Rung.model_validate(result[_RUNG])))

    def on_trial_complete(self, *, trial: Any, **_: Any) -> None:  # noqa: ANN401 - Tune's
        """Called when a trial is stopped, or has ended."""
        number = trial.config["number"]
        self._tell(_Found(number, ended=True, error=self._errors.get(number)))

    def on_trial_error(self, *, trial: Any, **_: Any) -> None:  # noqa: ANN401 - Tune's
        """Called when the process of a trial fails."""
        self._tell(
            _Found(trial.config["number"], ended=True, error="its process has died or failed")
        )


def _nobody(found: _Found) -> None:
    del found


class _LocalTeller(_Teller):
    """One that tells this process; what Tune writes of it into a file of its own tells nobody."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _Teller, (_nobody,)


class _BoxTeller(_Teller):
    """One that tells a box, from wherever Tune runs."""

    def __init__(self, box: Any) -> None:  # noqa: ANN401 - a Ray handle
        # A handle travels, a method of it does not.
        super().__init__(self._put)
        self._box = box

    def _put(self, found: _Found) -> None:
        self._box.put.remote(found)


class _Box:
    """Holds what was found on a cluster until it is fetched."""

    def __init__(self) -> None:
        self._found: list[_Found] = []

    def put(self, found: _Found) -> None:
        """Adds something."""
        self._found.append(found)

    def take(self) -> list[_Found]:
        """All that was added since the last call."""
        found, self._found = self._found, []
        return found


class _Earlier(NamedTuple):
    """A trial of before, as far as ASHA looks at one."""

    trial_id: str


def _scheduler(records: Records) -> ASHAScheduler:
    """ASHA that knows what trials have found which do not run again."""
    scheduler = ASHAScheduler(
        time_attr="quarter",
        metric="f1",
        mode="max",
        grace_period=QUARTERS[0],
        max_t=QUARTERS[-1],
        reduction_factor=_REDUCTION,
    )
    for trial in records.trials:
        if trial.state == "unfinished":
            # It reports its known rungs itself, as its first.
            continue
        earlier = _Earlier(f"earlier-{trial.number}")
        scheduler.on_trial_add(None, earlier)
        for rung in trial.rungs:
            scheduler.on_trial_result(None, earlier, {"quarter": rung.quarter, "f1": rung.f1})
    return scheduler


def _fit_on_cluster(tuner: tune.Tuner, box: Any, keep: Callable[[_Found], None]) -> None:  # noqa: ANN401 - a Ray handle
    """Keeps what is found as it is found, while Tune itself runs in the cluster."""

    def fetch() -> None:
        for found in ray.get(box.take.remote()):
            keep(_Found(*found))

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(tuner.fit)
        try:
            while not running.done():
                wait([running], _LOOK_S)
                fetch()
            running.result()
            fetch()
        except BaseException:
            # The thread ends when Ray does: without that, the pool would wait for the search.
            ray.shutdown()
            raise
