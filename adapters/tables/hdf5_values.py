"""Reads rows of a dataset of HDF5 as an array whose values have column types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def piece_of(dataset: Any, at: int, end: int) -> np.ndarray:
    """Returns rows of a dataset. Text in UTF-8 becomes str; other bytes stay bytes. Names of an enumeration replace its numbers."""
    import h5py

    piece: np.ndarray = np.asarray(dataset[at:end])
    text = h5py.check_string_dtype(dataset.dtype)
    if text is not None:
        return _texts(piece)
    names = h5py.check_enum_dtype(dataset.dtype)
    if names is not None:
        of = {number: name for name, number in names.items()}
        return np.array([of.get(value, str(value)) for value in piece.ravel().tolist()], object).reshape(piece.shape)
    if piece.dtype.fields is not None:
        fields = {
            name: _texts(piece[name]) if piece.dtype[name].kind in "SO" else piece[name]
            for name in piece.dtype.names or ()
        }
        return _structured(fields, len(piece))
    return piece


def _structured(fields: Mapping[str, np.ndarray], count: int) -> np.ndarray:
    array = np.empty(count, [(name, field.dtype, field.shape[1:]) for name, field in fields.items()])
    for name, field in fields.items():
        array[name] = field
    return array


def _texts(piece: np.ndarray) -> np.ndarray:
    values = piece.ravel().tolist()
    try:
        decoded = [value.decode() if isinstance(value, bytes) else value for value in values]
    except UnicodeDecodeError:
        decoded = values
    texts = np.empty(len(decoded), object)
    texts[:] = decoded
    return texts.reshape(piece.shape)
