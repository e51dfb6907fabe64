"""What is in the store, read from manifests alone: no weights, no torch."""

from dataclasses import dataclass

from crosyslog.errors import BundleError
from crosyslog.manifest import Manifest, load_manifest
from crosyslog.store import Store


@dataclass(frozen=True)
class StoredModel:
    """A version of a target in the store.

    Attributes:
        target: the system it is for.
        version: its number.
        current: whether it is the one in use.
        manifest: what it says about itself; none if that cannot be read.
        problem: why not.
    """

    target: str
    version: str
    current: bool
    manifest: Manifest | None
    problem: str | None


def stored_versions(store: Store, target: str) -> list[StoredModel]:
    """The versions of a target, oldest first; a damaged one is listed with what is wrong.

    Raises:
        StoreError: the store cannot be read.
    """
    current = store.current(target)
    found = []
    for version in store.versions(target):
        manifest, problem = None, None
        try:
            manifest, _ = load_manifest(store.path(target, version))
        except BundleError as error:
            problem = str(error)
        found.append(StoredModel(target, version, version == current, manifest, problem))
    return found
