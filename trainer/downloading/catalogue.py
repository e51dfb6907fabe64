"""Which data sets can be fetched, from whom, and what is known of them: datasets.toml."""

import tomllib
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from crosyslog.errors import SettingError

#: Names become a folder's and files': nothing that leads elsewhere, and nothing hidden.
_Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@-]*$")]
_Count = Annotated[int, Field(ge=1)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Publisher(_Entry):
    """Who publishes data sets, and on what terms."""

    title: str
    page: str
    licence: str
    citation: str


class Dataset(_Entry):
    """A log as somebody publishes it; datasets.toml explains the keys."""

    name: _Name
    system: _Name
    publisher: Publisher
    about: str
    address: str
    size: _Count
    exact: bool = True
    """Whether `size` is what the publisher states; else it is about right."""
    md5: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")] | None = None
    lines: _Count
    logs: tuple[_Name, ...] = ()
    others: tuple[_Name, ...] = ()
    citation: str | None = None

    @property
    def file_name(self) -> str:
        """The name of the file that is fetched."""
        return PurePosixPath(urlsplit(self.address).path).name

    @property
    def packing(self) -> Literal["zip", "tar.gz", "gz"]:
        """How its logs are packed: in an archive, or one as a compressed file."""
        if self.file_name.endswith(".zip"):
            return "zip"
        return "tar.gz" if self.file_name.endswith(".tar.gz") else "gz"

    @property
    def file_names(self) -> tuple[str, ...]:
        """The names of the files it consists of on the disk: logs compressed, labels as they are.

        A log that is published as a compressed file is one as it comes.
        """
        logs = tuple(f"{name}.gz" for name in self.logs) or (self.file_name,)
        return (*logs, *self.others)

    @property
    def citations(self) -> tuple[str, ...]:
        """What to cite when it is used: those who made the log, those who publish it."""
        return tuple(text for text in (self.citation, self.publisher.citation) if text)


def load_datasets() -> dict[str, Dataset]:
    """All data sets that can be fetched, by name."""
    raw = tomllib.loads((files("trainer.downloading") / "datasets.toml").read_text("utf-8"))
    publishers = raw["publishers"]
    found = (
        Dataset.model_validate(entry | {"publisher": publishers[entry["publisher"]]})
        for entry in raw["datasets"]
    )
    return {dataset.name: dataset for dataset in found}


def find_dataset(name: str) -> Dataset:
    """The data set of a name.

    Raises:
        SettingError: there is none of that name.
    """
    found = load_datasets()
    if name not in found:
        raise SettingError(f"no data set is called {name}: there is {', '.join(found)}")
    return found[name]
