"""What a simulated log is asked to be."""

from dataclasses import dataclass

from crosyslog.errors import SettingError

LATE_TEMPLATES = 0.1

FEWEST_TEMPLATES = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The arguments of a simulated log, checked; `simulate` explains them.

    Raises:
        SettingError: an argument is outside its range.
    """

    lines: int
    anomaly_rate: float
    seed: int
    late_templates: float = LATE_TEMPLATES
    templates: int | None = None

    def __post_init__(self) -> None:
        if self.lines < 1:
            raise SettingError(f"--lines {self.lines}: it must be at least 1")
        if not 0 <= self.anomaly_rate <= 0.6:
            raise SettingError(f"--anomaly-rate {self.anomaly_rate}: it must be from 0 to 0.6")
        if self.seed < 0:
            raise SettingError(f"--seed {self.seed}: it must be at least 0")
        if not 0 <= self.late_templates <= 0.9:
            raise SettingError(f"--late-templates {self.late_templates}: it must be from 0 to 0.9")
        if self.templates is not None and self.templates < FEWEST_TEMPLATES:
            raise SettingError(
                f"--templates {self.templates}: it must be at least {FEWEST_TEMPLATES:,}; "
                "a log without the option holds a few hundred to some thousand"
            )
