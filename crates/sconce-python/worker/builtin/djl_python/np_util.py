"""DJL's binary form of a list of arrays (NDList), to and from NumPy."""

import io
import struct

import numpy as np

MAGIC_NUMBER = "NDAR"
VERSION = 3


class _Reader:
    """Reads numbers, the highest byte first, and texts with their length before them."""

    def __init__(self, data):
        self.data = memoryview(data)
        self.at = 0

    def take(self, length: int):
        if length < 0 or self.at + length > len(self.data):
            raise ValueError(f"the NDList ends after {len(self.data)} bytes, "
                             f"within a value that begins at byte {self.at}")
        part = self.data[self.at:self.at + length]
        self.at += length
        return part

    def number(self, form: str) -> int:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def text(self) -> str:
        return bytes(self.take(self.number(">h"))).decode("utf-8")

    def shape(self) -> tuple:
        shape = tuple(self.number(">q") for _ in range(self.number(">i")))
        self.take(2 * self.number(">i"))  # the layout, a character for each dimension
        return shape


def from_nd_list(encoded) -> list:
    """The arrays of an NDList, or of NumPy's archive, which is taken in its place."""
    if bytes(encoded[:2]) == b"PK":
        with np.load(io.BytesIO(encoded)) as archive:
            return [archive[name] for name in archive.files]
    reader = _Reader(encoded)
    return [_array(reader) for _ in range(reader.number(">i"))]


def _array(reader: _Reader):
    magic = reader.text()
    if magic != MAGIC_NUMBER:
        raise AssertionError(f"magic number is not NDAR, actual {magic}")
    version = reader.number(">i")
    if version != VERSION:
        raise AssertionError(f"require version {VERSION}, actual {version}")
    if reader.number(">b") == 1:
        reader.text()  # the name
    reader.text()  # the format of sparse arrays
    dtype = np.dtype(reader.text().lower())
    shape = reader.shape()
    order = chr(reader.number(">B"))
    data = reader.take(reader.number(">i"))
    if order in "<>":
        dtype = dtype.newbyteorder(order)
    return np.frombuffer(data, dtype).reshape(shape)


def to_nd_list(np_list) -> bytearray:
    """An array or a list of arrays as an NDList, in little endian."""
    arrays = np_list if isinstance(np_list, list) else [np_list]
    out = bytearray(struct.pack(">i", len(arrays)))
    for array in arrays:
        out += _text(MAGIC_NUMBER) + struct.pack(">ib", VERSION, 0)
        out += _text("default") + _text(array.dtype.newbyteorder("=").name.upper())
        dims = array.shape
        out += struct.pack(f">i{len(dims)}q", len(dims), *dims)
        out += struct.pack(">i", len(dims)) + struct.pack(">h", ord("?")) * len(dims)
        data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes("C")
        out += struct.pack(">Bi", ord("<"), len(data)) + data
    return out


def _text(text: str) -> bytes:
    data = text.encode("utf-8")
    return struct.pack(">h", len(data)) + data
