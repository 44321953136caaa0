"""Pickles of plain values come back as pickle reads them; whatever else one may hold is refused, and nothing is run."""

import os
import pickle
import struct
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from trainables.data.reading.plainpickle import read_npy, read_plain_pickle

RUN: list[str] = []
PLAIN = {
    "features": np.arange(12, dtype=np.float32).reshape(3, 4),
    "bbox": np.asfortranarray(np.arange(8.0).reshape(2, 4)),
    "big endian": np.arange(3, dtype=">i2"),
    "half": np.ones((1, 0, 2), np.float16),
    "flags": np.array([True, False]),
    "names": np.array(["a", "bc"]),
    "bytes": np.array([b"x", b"yz"]),
    "scalar": np.float64(0.5),
    "image_width": 640,
    "many": 2**70,
    "nested": [(None, True, 1.5, "é", b"\x00\xff"), {"a": [1, [2, []]]}],
    1: -7,
}


def same(one, other) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.dtype == other.dtype and np.array_equal(one, other)
    return one == other


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_come_back_as_pickle_reads_them(protocol):
    assert same(PLAIN, read_plain_pickle(pickle.dumps(PLAIN, protocol), where="here"))


def test_a_value_in_two_places_is_read_and_a_thousandfold_one_costs_nothing():
    array, deep = np.arange(4), [0]
    for _ in range(60):
        deep = [deep, deep]  # 2^60 leaves
    found = read_plain_pickle(pickle.dumps([array, array, deep]), where="here")
    assert found[0] is found[1] and np.array_equal(found[0], array)


def ran() -> str:
    RUN.append("ran")
    return "ran"


class Runs:
    def __reduce__(self):
        return ran, ()


class Made:
    def __init__(self) -> None:
        self.value = 1


def numpy_state(shape, code, content) -> bytes:
    """An array's pickle by hand, whatever it says of itself."""
    head = b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tc_codecs\nencode\n(X\x01\x00\x00\x00bX\x06"
    head += b"\x00\x00\x00latin1tRtR"
    kind = b"cnumpy\ndtype\n(X" + struct.pack("<I", len(code)) + code.encode() + b"\x89\x88tR"
    sizes = b"(" + b"".join(b"J" + struct.pack("<i", size) for size in shape) + b"t"
    return b"\x80\x03" + head + b"(K\x01" + sizes + kind + b"\x89" + content + b"tb."


def test_a_pickle_by_hand_is_an_array():
    four = b"B" + struct.pack("<I", 8) + np.arange(2, dtype="<f4").tobytes()
    assert np.array_equal(read_plain_pickle(numpy_state((2,), "f4", four), where="here"), [0, 1])


BYTES = b"B" + struct.pack("<I", 8) + bytes(8)
HOSTILE = {
    "a function of a module": (pickle.dumps({"features": Runs()}), "test_plainpickle.ran"),
    "a shell": (b"cposix\nsystem\n(S'true'\ntR.", "posix.system"),
    "builtins": (b"c__builtin__\neval\n(S'1'\ntR.", "__builtin__.eval"),
    "numpy's loader": (b"cnumpy\nload\n(S'x'\ntR.", "numpy.load"),
    "a class": (pickle.dumps(Made(), 2), "the instruction NEWOBJ"),
    "an ordered dict": (pickle.dumps(OrderedDict(a=1)), "collections.OrderedDict"),
    "a set": (pickle.dumps({1, 2}, 4), "the instruction"),
    "an old instance": (b"(S'true'\nios\nsystem\n.", "the instruction INST"),
    "a persistent id": (b"Pid\n.", "the instruction PERSID"),
    "an extension": (b"\x80\x02\x82\x01.", "the instruction EXT1"),
    "a function's attributes": (b"cnumpy\ndtype\n}X\x01\x00\x00\x00aK\x01sb.", "a change of numpy.dtype"),
    "a function itself": (b"cnumpy\ndtype\n.", "numpy.dtype itself"),
    "the array class, called": (b"cnumpy\nndarray\n(K\x02tR.", "numpy.ndarray with other arguments"),
    "objects as numbers": (numpy_state((1,), "O", BYTES), "_reconstruct with other arguments"),
    "records": (numpy_state((1,), "V8", BYTES), "numpy.dtype with other arguments"),
    "a shape of more bytes": (numpy_state((3,), "f4", BYTES), "_reconstruct with other arguments"),
    "a negative shape": (numpy_state((-1,), "f4", BYTES), "_reconstruct with other arguments"),
    "a list in itself": (b"]q\x00h\x00a.", "something that holds itself"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_else_a_pickle_holds_is_refused_and_not_run(name):
    data, what = HOSTILE[name]
    RUN.clear()
    with pytest.raises(ValueError, match=r"^here: a pickle that holds .* is not read, it could run anything$") as error:
        read_plain_pickle(data, where="here")
    assert what in str(error.value) and not RUN


def test_a_hidden_state_cannot_make_numbers_of_pointers():
    """numpy believes the flags of a dtype's state, with which objects would pass as numbers."""
    kind = b"cnumpy\ndtype\n(X\x02\x00\x00\x00O8\x89\x88tR"
    kind += b"(K\x03X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    data = b"\x80\x03cnumpy._core.multiarray\nscalar\n(" + kind + BYTES + b"tR."
    with pytest.raises(ValueError, match="scalar with other arguments"):
        read_plain_pickle(data, where="here")


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_no_damaged_pickle_is_more_than_an_error(protocol):
    whole = pickle.dumps(PLAIN, protocol)
    for length in range(0, len(whole), 53):
        with pytest.raises(ValueError, match=r"^here: "):
            read_plain_pickle(whole[:length], where="here")
    rng = np.random.default_rng(protocol)
    for _ in range(50):
        broken = bytearray(whole)
        broken[rng.integers(len(whole))] = rng.integers(256)
        try:
            read_plain_pickle(bytes(broken), where="here")
        except ValueError as error:
            assert str(error).startswith("here: ") and "\n" not in str(error)


def test_a_pickle_that_asks_for_memory_is_refused():
    for data in (b"K\x01r" + struct.pack("<I", 2**31 - 1) + b".", b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"."):
        with pytest.raises(ValueError, match="no pickle, or not all of one"):
            read_plain_pickle(data, where="here")


def test_npy_files(tmp_path: Path):
    np.save(tmp_path / "a.npy", PLAIN["features"])
    np.save(tmp_path / "a_info.npy", PLAIN, allow_pickle=True)  # pyright: ignore[reportArgumentType]
    np.save(tmp_path / "ids.npy", np.array(["x", None, 3], object), allow_pickle=True)
    np.save(tmp_path / "bad.npy", np.array({"x": Runs()}, object), allow_pickle=True)
    assert np.array_equal(read_npy(tmp_path / "a.npy"), PLAIN["features"])
    assert same(PLAIN, read_npy(tmp_path / "a_info.npy"))
    assert read_npy(tmp_path / "ids.npy") == ["x", None, 3]
    with pytest.raises(ValueError, match=r"bad\.npy: a pickle that holds .*ran is not read"):
        read_npy(tmp_path / "bad.npy")
    whole = (tmp_path / "a.npy").read_bytes()
    for length in (0, 5, 20, len(whole) - 1):
        (tmp_path / "cut.npy").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut\.npy: no \.npy file, or not all of it"):
            read_npy(tmp_path / "cut.npy")
    with pytest.raises(ValueError, match=os.strerror(2)):
        read_npy(tmp_path / "none.npy")
