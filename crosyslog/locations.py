"""Where things live when nobody says otherwise."""

from __future__ import annotations

import os
from pathlib import Path


def default_store() -> str | Path:
    """The store: `CROSYSLOG_MODEL__STORE`, a folder or a URL, else in the user's data folder."""
    return os.environ.get("CROSYSLOG_MODEL__STORE") or user_store()


def user_store() -> Path:
    """The folder of bundles where nothing is set."""
    return _data() / "models"


def default_cache() -> Path:
    """The folder of encoded templates: `CROSYSLOG_ENCODER__CACHE`, else the user's cache folder."""
    given = os.environ.get("CROSYSLOG_ENCODER__CACHE")
    return Path(given) if given else user_cache()


def user_cache() -> Path:
    """The folder of encoded templates where nothing is set."""
    import platformdirs

    return platformdirs.user_cache_path("crosyslog")


def default_data() -> Path:
    """The folder of logs that were fetched: `CROSYSLOG_DATA`, else in the user's data folder."""
    given = os.environ.get("CROSYSLOG_DATA")
    return Path(given) if given else _data() / "logs"


def _data() -> Path:
    import platformdirs

    return platformdirs.user_data_path("crosyslog")
