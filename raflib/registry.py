"""Classes by name: how samplers, driving maps and metrics make themselves known."""

from __future__ import annotations

from typing import TypeVar

from raflib.errors import RafError

T = TypeVar("T")


def enrol(name: str, cls: type[T], registry: dict[str, type[T]]) -> None:
    """Enter a class under `name`; RafError when another class has it. Defining a class again is no other."""
    known = registry.get(name, cls)
    if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise RafError(f"{cls.__qualname__}: the name {name!r} is {known.__qualname__}'s; choose another")
    registry[name] = cls
