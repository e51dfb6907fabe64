"""The original data sets, fetched from those who publish them.

What `trainer download` does: catalogue.py says what there is (datasets.toml), fetching.py brings
a file over an unreliable network, archives.py looks into it, and delivery.py puts the three
together, so that a log appears under its name when it is whole and checked, and not before.
"""

from trainer.downloading.catalogue import Dataset, find_dataset, load_datasets
from trainer.downloading.delivery import Download, download, downloaded_logs
from trainer.downloading.fetching import Patience, Report

__all__ = [
    "Dataset",
    "Download",
    "Patience",
    "Report",
    "download",
    "downloaded_logs",
    "find_dataset",
    "load_datasets",
]
