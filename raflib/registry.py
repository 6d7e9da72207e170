"""Classes by name: how samplers, driving maps and metrics make themselves known."""

from __future__ import annotations

from raflib.errors import RafError


def enrol(cls: type, registry: dict[str, type]) -> None:
    """Enter a class under its `name`; RafError when another class has it. Defining a class again is no other."""
    known = registry.get(cls.name, cls)
    if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise RafError(f"{cls.__qualname__}: the name {cls.name!r} is {known.__qualname__}'s; choose another")
    registry[cls.name] = cls
