"""Labelled logs from our own templates, in the raw format of a real system.

What `trainer simulate` writes: a log to try every command on, when no real one is at hand.
A system is a TOML file in this folder: its hosts, its rates, what its daemons say and what goes
wrong; daemons.toml holds the daemons that systems share. A label belongs to a line, or, in HDFS
and OpenStack, to a session. The same arguments always give the same bytes, whatever the Python,
numpy or machine.
"""

from trainer.simulation.files import Summary, labels_beside, write_simulated_log
from trainer.simulation.logs import label_column, simulate, simulated_systems

__all__ = [
    "Summary",
    "label_column",
    "labels_beside",
    "simulate",
    "simulated_systems",
    "write_simulated_log",
]
