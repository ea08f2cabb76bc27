"""Groups of parameters by glob, and the atoms that they are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

Groups = Mapping[str, str | Iterable[str]]


@dataclass(frozen=True)
class Resolved:
    """Which parameters the groups have. Parameters are numbers: their place in the list."""

    # By group: its name and its parameters.
    groups: list[tuple[str, list[int]]]
    # By parameter: the atom that it is part of, None where it is in no group.
    atom_of: list[int | None]
    # By group: its name and its atoms.
    atoms_of: list[tuple[str, list[int]]]
    # Number of atoms.
    atoms: int
    # Groups in which there is no parameter.
    empty: list[str]


def resolve(groups: Groups, names: Sequence[Sequence[str]]) -> Resolved:
    """Finds the parameters of each group by the names of the parameters, of which each may have several.

    Parameters that are in the same groups make up an *atom*. Each parameter is in one atom at most, so that all groups,
    however they overlap, are sketched in one pass over the parameters.
    """
    if not isinstance(groups, Mapping):
        raise TypeError(f"groups: {groups!r} is no mapping of names to globs")
    found: list[tuple[str, list[int]]] = []
    empty: list[str] = []
    for name, globs in groups.items():
        patterns = [globs] if isinstance(globs, str) else list(globs)
        for pattern in (name, *patterns):
            if not isinstance(pattern, str):
                raise TypeError(f"groups: {pattern!r} of {name!r} is no text")
        members = [i for i, own in enumerate(names) if any(fnmatchcase(n, p) for p in patterns for n in own)]
        if members:
            found.append((name, members))
        else:
            empty.append(name)
    groups_of: list[list[int]] = [[] for _ in names]
    for group, (_, members) in enumerate(found):
        for member in members:
            groups_of[member].append(group)
    atoms: dict[tuple[int, ...], int] = {}
    atom_of = [atoms.setdefault(tuple(of), len(atoms)) if of else None for of in groups_of]
    atoms_of = [(name, [atom for of, atom in atoms.items() if group in of]) for group, (name, _) in enumerate(found)]
    return Resolved(found, atom_of, atoms_of, len(atoms), empty)
