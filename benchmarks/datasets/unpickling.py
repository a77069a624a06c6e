"""Interpreter of pickles that imports, calls and hashes nothing that they name.

A pickle is a program. Python's own interpreter looks up what it names, calls what it is given,
hashes keys of any depth (which overflows the stack) and reserves memory that the file announces
without having it. This one knows the opcodes that tables are pickled with, of all protocols. A call
becomes a `StandIn` of its name and arguments, and keys are texts or whole numbers. Time and memory
grow with the bytes of the file alone.
"""

from __future__ import annotations

import pickletools
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from benchmarks.core.formats import brief

VALUES = {  # opcodes whose argument is the value
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "BYTEARRAY8"),
}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
COUNTED = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
FRAMING = {"PROTO", "FRAME", "STOP"}
RECONSTRUCTOR = "_reconstructor"  # makes an object of its first argument, in the oldest protocols


@dataclass(eq=False, repr=False, slots=True)
class StandIn:
    """What a pickle names, or an object of it: the arguments that it was made of, and its state."""

    name: str  # without its module
    args: tuple[Any, ...] = ()
    state: Any = None

    def get(self, key: str) -> Any:
        """Return the attribute or argument of a name; None if there is none."""
        places = (self.state, *self.args)
        return next((p[key] for p in places if isinstance(p, dict) and key in p), None)


def load(content: bytes, names: Mapping[str, Set[str]]) -> Any:
    """Return what a pickle holds: plain values, and stand-ins for the ``names`` of top packages.

    Raises ValueError for any other name, and for bytes that are no pickle of plain values.
    """
    interpreter = _Interpreter(names)
    try:
        for opcode, argument, _ in pickletools.genops(content):
            interpreter.step(opcode.name, argument)
        return interpreter.stack.pop()
    except (LookupError, TypeError) as error:
        raise ValueError(f"it is no pickle, or damaged: {brief(error)}") from error


class _Interpreter:
    """Stack and memo of a pickle; LookupError or TypeError where these lack what a step needs."""

    def __init__(self, names: Mapping[str, Set[str]]) -> None:
        self.names = names
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks under the marks
        self.memo: dict[int, Any] = {}

    def step(self, opcode: str, argument: Any) -> None:
        """Take one opcode."""
        if opcode in VALUES:
            self.stack.append(argument)
        elif opcode in CONSTANTS:
            self.stack.append(CONSTANTS[opcode])
        elif opcode in COUNTED:
            self.stack.append(tuple(self._popped(COUNTED[opcode])))
        elif opcode not in FRAMING:
            self._act(opcode, argument)

    def _act(self, opcode: str, argument: Any) -> None:
        match opcode:
            case "MARK":
                self.below.append(self.stack)
                self.stack = []
            case "POP":
                self.stack.pop()
            case "POP_MARK":
                self._marked()
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.stack[-1]
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = self.stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                self.stack.append(self.memo[argument])
            case "EMPTY_LIST" | "EMPTY_DICT":
                self.stack.append([] if opcode == "EMPTY_LIST" else {})
            case "LIST" | "TUPLE":
                items = self._marked()
                self.stack.append(items if opcode == "LIST" else tuple(items))
            case "DICT":
                items = self._marked()
                self.stack.append({})
                self._set(items)
            case "APPEND" | "APPENDS":
                items = self._marked() if opcode == "APPENDS" else self._popped(1)
                _typed(self.stack[-1], list).extend(items)
            case "SETITEM" | "SETITEMS":
                self._set(self._marked() if opcode == "SETITEMS" else self._popped(2))
            case "BUILD":
                state = self.stack.pop()
                _typed(self.stack[-1], StandIn).state = state
            case "GLOBAL" | "STACK_GLOBAL":
                parts = argument.split(" ") if opcode == "GLOBAL" else self._popped(2)
                self.stack.append(self._named(parts))
            case "INST":
                self._make(self._named(argument.split(" ")), self._marked())
            case "OBJ":
                named, *args = self._marked()
                self._make(named, args)
            case "REDUCE" | "NEWOBJ":
                named, args = self._popped(2)
                self._make(named, _typed(args, tuple))
            case "NEWOBJ_EX":
                named, args, more = self._popped(3)
                self._make(named, (*_typed(args, tuple), more))
            case _:
                raise ValueError(f"its opcode {opcode} has no place in a table of numbers")

    def _popped(self, count: int) -> list[Any]:
        """Take so many values from the stack, the deepest first."""
        return [self.stack.pop() for _ in range(count)][::-1]

    def _marked(self) -> list[Any]:
        """Take all values above the last mark, and the mark."""
        items, self.stack = self.stack, self.below.pop()
        return items

    def _set(self, items: Sequence[Any]) -> None:
        """Set items of the topmost dictionary, keys and values by turns."""
        target = _typed(self.stack[-1], dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_typed(key, str | int)] = value

    def _named(self, parts: Sequence[Any]) -> StandIn:
        """Return the stand-in of a module and a name."""
        module, name = (_typed(part, str) for part in parts)
        if name not in self.names.get(module.partition(".")[0], ()):
            text = brief(f"{module}.{name}")
            raise ValueError(f"it names {text}, which is no part of a table of numbers")
        return StandIn(name)

    def _make(self, named: Any, args: Sequence[Any]) -> None:
        """Push the stand-in of an object."""
        named = _typed(named, StandIn)
        if named.name == RECONSTRUCTOR:
            named, args = _typed(args[0], StandIn), ()
        self.stack.append(StandIn(named.name, tuple(args)))


def _typed(value: Any, kind: Any) -> Any:
    """Return the value; TypeError if it is of another type."""
    if not isinstance(value, kind):
        raise TypeError(f"a {type(value).__name__} in a place of another type")
    return value
