"""Pickles from elsewhere, read without running what they may hold: plain values and arrays of numpy, nothing else.

Detector features are handed around as pickled dicts, in LMDB files and in ``.npy`` files of one object. A pickle is a
program that may call any function of any module. Here

1. its instructions are looked through first: those that make objects of classes are refused, and so is a pickle that
   is cut short, or asks for more memory than it has bytes;
2. of the functions that it names only those with which numpy rebuilds arrays are known, and none of numpy's own are
   called: each leaves a note of what it was given, and notes that are as numpy writes them become arrays at the end.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

_INSTRUCTIONS = frozenset(
    "PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT "
    "STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 "
    "BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 "
    "TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET "
    "GLOBAL STACK_GLOBAL REDUCE BUILD".split()
)
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
_CODE = re.compile(r"[<>|=]?([biufSU]\d{1,6}|O8?|\?)")
_BROKEN = (pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError)


def read_plain_pickle(data: bytes | memoryview, *, where: str) -> Any:
    """What was pickled: dicts, lists, tuples, strings, bytes, numbers, None and arrays of numbers or strings.

    Args:
        data: the pickle.
        where: it is from, for errors.

    Raises:
        ValueError: it is none, is cut short, or needs anything else; what that is, is named.
    """
    data = bytes(data)
    try:
        with warnings.catch_warnings():  # of escapes in a damaged one
            warnings.simplefilter("ignore", DeprecationWarning)
            _look_through(data)
        return _Values().of(_Unpickler(io.BytesIO(data), encoding="latin1").load())
    except _RefusedError as error:
        raise ValueError(f"{where}: a pickle that holds {error} is not read, it could run anything") from None
    except (*_BROKEN, MemoryError, RecursionError) as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise ValueError(f"{where}: no pickle, or not all of one ({reason})") from None


def read_npy(path: Path) -> Any:
    """What a ``.npy`` file holds: an array, memory-mapped, or the one object that was saved as such, if it is plain.

    Raises:
        ValueError: it is no such file, not all of one, or holds objects that are not plain.
    """
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            _, _, dtype = header(file)
            if dtype.hasobject:
                return read_plain_pickle(file.read(), where=str(path))
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(str(error) if str(path) in str(error) else f"{path}: no .npy file, or not all of it") from None
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None


class _RefusedError(Exception):
    pass


def _look_through(data: bytes) -> None:
    for instruction, argument, _ in pickletools.genops(data):
        if instruction.name not in _INSTRUCTIONS:
            raise _RefusedError(f"the instruction {instruction.name}")
        if instruction.name in _PUTS and (argument or 0) > len(data):  # before it there is no room for so many
            raise ValueError("a place behind its end")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}".replace("numpy.core.", "numpy._core.")
        if full not in _KNOWN:
            raise _RefusedError(f"{module}.{name}")
        return _Function(full)


class _Note:
    """What a pickle said of an object: which function it called with what, and what it then gave the result."""

    __slots__ = ("arguments", "function", "state")

    def __init__(self, function: str, arguments: tuple[Any, ...]) -> None:
        self.function, self.arguments, self.state = function, arguments, None

    def __setstate__(self, state: Any) -> None:
        if self.state is not None:
            raise _RefusedError(f"{self.function} with two states")
        self.state = state


class _Function:
    """A name in a pickle."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *arguments: Any) -> _Note:
        return _Note(self.name, arguments)

    def __setstate__(self, state: Any) -> None:
        raise _RefusedError(f"a change of {self.name}")


class _Values:
    """Makes values of what was unpickled; what is in several places is made once."""

    def __init__(self) -> None:
        self._made: dict[int, Any] = {}

    def of(self, given: Any) -> Any:
        if not isinstance(given, dict | list | tuple | _Note | _Function):
            return given
        if id(given) not in self._made:
            self._made[id(given)] = _UNFINISHED
            self._made[id(given)] = self._make(given)
        found = self._made[id(given)]
        if found is _UNFINISHED:
            raise _RefusedError("something that holds itself")
        return found

    def _make(self, given: Any) -> Any:
        if isinstance(given, dict):
            if not all(isinstance(key, str | bytes | int | None) for key in given):
                raise _RefusedError("a dict whose keys are no strings")
            return {key: self.of(value) for key, value in given.items()}
        if isinstance(given, list | tuple):
            return type(given)(self.of(value) for value in given)
        if isinstance(given, _Function):
            raise _RefusedError(f"{given.name} itself")
        try:
            return _KNOWN[given.function](self, *given.arguments, state=given.state)
        except (*_BROKEN, UnicodeError) as error:
            raise _RefusedError(f"{given.function} with other arguments than numpy writes ({error})") from None

    # --- what numpy's functions would have made ------------------------------------------------------
    def array(self, kind: Any, shape: Any, code: Any, *, state: Any) -> Any:
        """numpy._core.multiarray._reconstruct, then the array's state."""
        _expect(isinstance(kind, _Function) and kind.name == "numpy.ndarray" and tuple(shape) == (0,))
        version, shape, dtype, is_fortran, content = state
        _expect(version == 1 and isinstance(is_fortran, bool | int))
        dtype = self.of(dtype)
        if dtype is not None:
            return _filled(content, dtype, shape, "F" if is_fortran else "C")
        _expect(isinstance(content, list) and len(content) == math.prod(shape) and len(shape) < 2)
        return self.of(content) if shape else self.of(content[0])

    def buffer(self, content: Any, dtype: Any, shape: Any, order: Any, *, state: Any) -> np.ndarray:
        """numpy._core.numeric._frombuffer: arrays of protocol 5."""
        _expect(state is None)
        return _filled(content, self.of(dtype), shape, order)

    def scalar(self, dtype: Any, content: Any, *, state: Any) -> Any:
        """numpy._core.multiarray.scalar."""
        _expect(state is None)
        return _filled(content, self.of(dtype), (1,), "C")[0].item()

    def dtype(self, code: Any, align: Any = False, copy: Any = True, *, state: Any) -> np.dtype[Any] | None:
        """numpy.dtype, then its state: byte order and size; None stands for objects."""
        _expect(isinstance(code, str) and _CODE.fullmatch(code) is not None)
        order = "|" if state is None else state[1]
        _expect(order in ("<", ">", "|", "="))
        if code.startswith("O"):
            return None
        found = np.dtype(code)
        found = found.newbyteorder(order) if order in "<>" else found
        if state is not None:
            _expect(state[0] == 3 and not any(state[2:5]) and state[5] in (-1, found.itemsize))
        return found

    def no_bytes(self, *, state: Any) -> bytes:
        """bytes, in pickles that are text."""
        _expect(state is None)
        return b""

    def encoded(self, text: Any, encoding: Any = "latin1", *, state: Any) -> bytes:
        """_codecs.encode: the bytes of an array in a pickle that is text."""
        _expect(state is None and isinstance(text, str) and encoding == "latin1")
        return text.encode("latin1")


_UNFINISHED = object()
_KNOWN: dict[str, Any] = {
    "numpy.ndarray": None,  # an argument alone: it is never called
    "numpy.dtype": _Values.dtype,
    "numpy._core.multiarray._reconstruct": _Values.array,
    "numpy._core.multiarray.scalar": _Values.scalar,
    "numpy._core.numeric._frombuffer": _Values.buffer,
    "_codecs.encode": _Values.encoded,
    "__builtin__.bytes": _Values.no_bytes,
}


def _expect(is_so: bool) -> None:
    if not is_so:
        raise ValueError("not as expected")


def _filled(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """An array of exactly these bytes, which are no objects."""
    _expect(isinstance(dtype, np.dtype) and not dtype.hasobject)
    if isinstance(content, _Note):
        content = _Values().of(content)
    if isinstance(content, str):  # of Python 2
        content = content.encode("latin1")
    _expect(isinstance(content, bytes | bytearray) and order in ("C", "F"))
    _expect(isinstance(shape, tuple) and all(isinstance(size, int) and size >= 0 for size in shape))
    _expect(math.prod(shape) * dtype.itemsize == len(content))
    if 0 in shape:
        return np.zeros(shape, dtype)
    return np.frombuffer(content, dtype).reshape(shape, order=order)
