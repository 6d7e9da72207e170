"""Reading files that may be damaged, foreign or made to harm: arrays (.npz, .npy), JSON and tables (.csv).

    arrays = read_arrays(path, {"mean": Array("f", "V 3"), "name": Array("U", "")}, "face model", "restore the file")
    values = read_json(path, {"subject": str, "steps": int})
    rows = read_table(path, numbers=("step", "loss"), texts=("subject",))

Sizes, types, shapes and names that a file declares are compared with those that the caller expects and with the file's
length, before anything is unpacked or allocated. Nothing is unpickled, and no reader leaves its file. Every problem is
a RafError that names the file. `pack_arrays` writes what `read_arrays` reads. Needs only numpy; tables need pandas,
HDF5 files h5py.
"""

from raflib.reading.arrays import Array, pack_arrays, read_arrays, seal_of
from raflib.reading.files import FileError, checked_file, damage_named, read_bytes
from raflib.reading.hdf5 import read_hdf5
from raflib.reading.matlab import read_matlab
from raflib.reading.npy import read_npy
from raflib.reading.pickled import read_pickle
from raflib.reading.text import parsed_json, read_json, read_table

__all__ = [
    "Array", "FileError", "checked_file", "damage_named", "pack_arrays", "parsed_json", "read_arrays", "read_bytes",
    "read_hdf5", "read_json", "read_matlab", "read_npy", "read_pickle", "read_table", "seal_of",
]  # fmt: skip
