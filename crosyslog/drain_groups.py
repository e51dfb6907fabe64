"""Groups of templates by Drain: templates that differ in a few words are one group.

Masking takes out what looks like a value by itself. Words that vary as well (names of users, of
files without a dot) stay, and each makes a template of its own. Drain (He et al., "Drain: An Online
Log Parsing Approach with Fixed Depth Tree", ICWS 2017) sees that by comparing: of a group's
templates it keeps the words that all of them have, and `#` for the rest.

It runs over the distinct templates in the order in which they first appeared, not over lines: how
often a template occurs changes no group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drain3.drain import Drain
    from numpy.typing import NDArray

#: What masking and Drain write for what varies.
VARIABLE: Final = "#"


class MalformedGroupsError(ValueError):
    """Stored groups are not what `TemplateGroups.to_json` writes."""


class _Content(BaseModel):
    """What is stored: Drain's settings, and the groups' texts by number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    depth: Annotated[int, Field(ge=3)]
    similarity: Annotated[float, Field(gt=0, le=1)]
    children: Annotated[int, Field(ge=1)]
    groups: tuple[str, ...]


class TemplateGroups:
    """Groups that Drain made of some templates; none of its methods changes them."""

    def __init__(self, content: _Content) -> None:
        """Builds Drain's tree of stored groups; `fit` and `from_json` give them."""
        # Its package imports jsonpickle, for persistence of its own that is not used here.
        from drain3.drain import LogCluster

        self._content = content
        self._drain = _new_drain(content)
        #: By the number of tokens: groups that share enough with whatever their text fits.
        self._telling: dict[int, list[int]] = {}
        self._by_text: dict[str, int] = {}
        for number, text in enumerate(content.groups):
            tokens = text.split()
            # The tree that the fit had: there, a group's words at its start became `#` only where
            # the branch that it had been put in is that of `#`.
            cluster = LogCluster(tokens, number)
            self._drain.id_to_cluster[number] = cluster
            self._drain.add_seq_to_prefix_tree(self._drain.root_node, cluster)
            self._by_text.setdefault(text, number)
            words = sum(token != VARIABLE for token in tokens)
            if words and words / len(tokens) >= content.similarity:
                self._telling.setdefault(len(tokens), []).append(number)

    @classmethod
    def fit(
        cls, templates: Sequence[str], *, depth: int, similarity: float, children: int
    ) -> TemplateGroups:
        """Groups templates.

        Args:
            templates: masked ones, in the order of their first appearance; repeats change nothing.
            depth: levels of Drain's tree, from 3: `depth - 3` words at the start of a template
                choose the groups that it is compared with.
            similarity: share of a template's words, each at its place, that a group must have for
                the template to join it; above 0 and at most 1.
            children: branches that a node of the tree has at most; further words share one.

        Raises:
            ValueError: a setting is out of its range.
        """
        try:
            settings = _Content(depth=depth, similarity=similarity, children=children, groups=())
        except ValidationError as error:
            raise ValueError(_first_mistake(error)) from error
        drain = _new_drain(settings)
        for text in dict.fromkeys(map(_plain, templates)):
            drain.add_log_message(text)
        texts = tuple(cluster.get_template() for cluster in drain.clusters)
        return cls(settings.model_copy(update={"groups": texts}))

    @property
    def groups(self) -> list[str]:
        """The groups' texts by number, in the order in which they were begun."""
        return list(self._content.groups)

    def match(self, templates: Sequence[str]) -> NDArray[np.int64]:
        """The number of each template's group, -1 where there is none: int64 [T].

        Depends on the template and the groups alone. Every template of the fit has a group; one
        that was not there has none if too few of its words are at their places in any.
        """
        return np.fromiter(map(self._group_of, templates), dtype=np.int64, count=len(templates))

    def to_json(self) -> bytes:
        """Settings and groups, for `from_json`."""
        return self._content.model_dump_json().encode()

    @classmethod
    def from_json(cls, data: bytes) -> TemplateGroups:
        """The groups that `to_json` wrote: they match as those did.

        Raises:
            MalformedGroupsError: the data are something else; one line.
        """
        try:
            content = _Content.model_validate_json(data)
        except ValidationError as error:
            raise MalformedGroupsError(_first_mistake(error)) from error
        for number, text in enumerate(content.groups):
            if text != _plain(text):
                raise MalformedGroupsError(
                    f"groups.{number}: words must stand between single blanks"
                )
        return cls(content)

    def _group_of(self, template: str) -> int:
        tokens = template.split()
        root, similarity = self._drain.root_node, self._content.similarity
        found = self._drain.tree_search(root, tokens, similarity, include_params=False)
        if found is None:
            # A `#` is no shared word to Drain: with too many of them, a template is not even like
            # itself. It was a group of its own.
            same = self._by_text.get(_plain(template))
            if same is not None:
                return same
            # Branches that were added after a template had joined its group can lead elsewhere.
            telling = self._telling.get(len(tokens), ())
            found = self._drain.fast_match(telling, tokens, 1.0, include_params=True)
        return -1 if found is None else int(found.cluster_id)


def _new_drain(content: _Content) -> Drain:
    from drain3.drain import Drain

    return Drain(
        depth=content.depth,
        sim_th=content.similarity,
        max_children=content.children,
        param_str=VARIABLE,
        # Masking has said already which tokens are values.
        parametrize_numeric_tokens=False,
    )


def _plain(template: str) -> str:
    """A template as Drain reads it: words between single blanks."""
    return " ".join(template.split())


def _first_mistake(error: ValidationError) -> str:
    mistake = error.errors()[0]
    place = ".".join(str(part) for part in mistake["loc"])
    return f"{place}: {mistake['msg']}" if place else mistake["msg"]
