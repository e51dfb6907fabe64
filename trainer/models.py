"""What is in the store, verified by its hashes; nothing is loaded into a model: no torch."""

from dataclasses import dataclass

from crosyslog.errors import BundleError, StoreError
from crosyslog.manifest import Manifest, read_verified
from crosyslog.store import Store


@dataclass(frozen=True)
class StoredModel:
    """A version of a target in the store.

    Attributes:
        target: the system it is for.
        version: its number.
        current: whether it is the one in use.
        manifest: what it says about itself; none if it is damaged.
        problem: why not.
    """

    target: str
    version: str
    current: bool
    manifest: Manifest | None
    problem: str | None


def stored_versions(store: Store, target: str) -> list[StoredModel]:
    """The versions of a target, oldest first; a damaged one is listed with what is wrong.

    Where it cannot be told which one is in use, none is: the list is what helps to choose.
    """
    try:
        current = store.current(target)
    except StoreError:
        current = None
    found = []
    for version in store.versions(target):
        manifest, problem = None, None
        try:
            manifest, _, _ = read_verified(store.path(target, version))
        except BundleError as error:
            problem = str(error)
        found.append(StoredModel(target, version, version == current, manifest, problem))
    return found
