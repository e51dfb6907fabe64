"""System profiles: how a raw line of a kind of log splits into its fields.

A profile is a TOML file and no code. The shipped ones stand beside this module; a user's own is
given by path.
"""

from crosyslog.systems.profile import (
    Example,
    Fields,
    Paths,
    Severity,
    System,
    Time,
    load_system,
    system_names,
)

__all__ = [
    "Example",
    "Fields",
    "Paths",
    "Severity",
    "System",
    "Time",
    "load_system",
    "system_names",
]
