"""Labelled logs from our own templates, in the raw format of a real system.

What `trainer simulate` writes: a log to try every command on, when no real one is at hand.
A system is a TOML file in this folder: its hosts, its rates, its daemons' messages and its
families of alerts; daemons.toml holds the daemons that systems share. The same arguments always
give the same bytes, whatever the Python, numpy or machine.
"""

from trainer.simulation.catalogue import simulated_systems
from trainer.simulation.files import Summary, write_simulated_log
from trainer.simulation.stream import simulate

__all__ = ["Summary", "simulate", "simulated_systems", "write_simulated_log"]
