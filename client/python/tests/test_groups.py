"""Groups by glob, and their atoms."""

from __future__ import annotations

import random

import pytest
from gradwatch._groups import resolve

NAMES = [("embed.weight", "head.weight"), ("blocks.0.attn.q",), ("blocks.0.mlp.fc",), ("blocks.1.attn.q",), ("blocks.1.mlp.fc",)]


def test_stars_stand_for_dots_and_lists_are_unions() -> None:
    found = resolve({"attention": "*.attn.*", "ends": ["embed.*", "blocks.1.mlp.fc"], "all": "*"}, NAMES)
    assert found.groups == [("attention", [1, 3]), ("ends", [0, 4]), ("all", [0, 1, 2, 3, 4])]
    assert found.empty == []


def test_a_parameter_is_found_by_each_of_its_names_once() -> None:
    assert resolve({"tied": ["embed.*", "head.*"]}, NAMES).groups == [("tied", [0])]


def test_case_matters_and_empty_groups_are_named() -> None:
    found = resolve({"Attention": "*.ATTN.*", "all": "*"}, NAMES)
    assert found.empty == ["Attention"]
    assert [name for name, _ in found.groups] == ["all"]


def test_what_is_in_no_group_is_in_no_atom() -> None:
    assert resolve({"attention": "*.attn.*"}, NAMES).atom_of == [None, 0, None, 0, None]


@pytest.mark.parametrize("seed", range(20))
def test_atoms_add_up_to_groups(seed: int) -> None:
    chance = random.Random(seed)
    names = [(f"p{i}",) for i in range(30)]
    groups = {f"g{g}": [f"p{i}" for i in range(30) if chance.random() < 0.4] for g in range(5)}
    found = resolve(groups, names)
    of_atoms = [{i for i, atom in enumerate(found.atom_of) if atom == a} for a in range(found.atoms)]
    assert all(of_atoms)
    for (name, members), (same, atoms) in zip(found.groups, found.atoms_of, strict=True):
        assert name == same
        assert [f"p{i}" for i in members] == sorted(groups[name], key=lambda p: int(p[1:]))
        # Each parameter in exactly one of the group's atoms.
        assert sorted(i for atom in atoms for i in of_atoms[atom]) == members


@pytest.mark.parametrize("groups", [["*"], {"all": 1}, {"all": [1]}, {1: "*"}])
def test_what_is_no_group_is_refused(groups: object) -> None:
    with pytest.raises(TypeError):
        resolve(groups, NAMES)  # type: ignore[arg-type]
