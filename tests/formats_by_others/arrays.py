"""Arrays, tensors and recordings of numbers that other libraries write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.formats_by_others.written import REFUSED, Row, writer

POINTS: list[Row] = [{"a": n, "b": n / 4} for n in range(6)]


@writer("NPY of NumPy", "numpy", [{"value": [n, n + 1, n + 2]} for n in range(6)])
def _(folder: Path) -> None:
    import numpy as np

    np.save(folder / "x.npy", np.array([[n, n + 1, n + 2] for n in range(6)]))


@writer("NPZ of NumPy", "numpy", POINTS)
def _(folder: Path) -> None:
    import numpy as np

    np.savez(folder / "x.npz", a=np.arange(6), b=np.arange(6) / 4)


@writer("compressed NPZ of NumPy", "numpy", POINTS)
def _(folder: Path) -> None:
    import numpy as np

    np.savez_compressed(folder / "x.npz", a=np.arange(6), b=np.arange(6) / 4)


@writer("structured NPY of NumPy", "numpy", POINTS)
def _(folder: Path) -> None:
    import numpy as np

    np.save(folder / "x.npy", np.array([(n, n / 4) for n in range(6)], dtype=[("a", "i8"), ("b", "f8")]))


@writer("pickled NPY of NumPy", "numpy", ends=REFUSED, says="pickle")
def _(folder: Path) -> None:
    import numpy as np

    np.save(folder / "x.npy", np.array([{"a": 1}, {"b": 2}], dtype=object), allow_pickle=True)


@writer("HDF5 of h5py", "h5py", POINTS)
def _(folder: Path) -> None:
    import h5py
    import numpy as np

    with h5py.File(folder / "x.h5", "w") as file:
        file["a"], file["b"] = np.arange(6), np.arange(6) / 4


@writer("MAT of SciPy", "scipy", POINTS)
def _(folder: Path) -> None:
    import numpy as np
    import scipy.io

    scipy.io.savemat(folder / "x.mat", {"a": np.arange(6), "b": np.arange(6) / 4})


@writer("Matrix Market of SciPy", "scipy", [{"indices": [n], "values": [1.0], "size": 5} for n in range(5)])
def _(folder: Path) -> None:
    import numpy as np
    import scipy.io
    import scipy.sparse

    scipy.io.mmwrite(folder / "x.mtx", scipy.sparse.coo_matrix(np.eye(5)))


@writer("sparse NPZ of SciPy", "scipy", [{"indices": [n], "values": [1.0], "size": 5} for n in range(5)])
def _(folder: Path) -> None:
    import numpy as np
    import scipy.sparse

    scipy.sparse.save_npz(folder / "x.npz", scipy.sparse.csr_matrix(np.eye(5)))


@writer("safetensors", "safetensors", POINTS, ends=REFUSED, says="safetensors")
def _(folder: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"a": np.arange(6), "b": np.arange(6) / 4}, folder / "x.safetensors")


@writer("checkpoint of PyTorch", "torch", ends=REFUSED, says="PyTorch")
def _(folder: Path) -> None:
    import torch

    torch.save({"a": torch.arange(6)}, folder / "x.pt")


@writer("model of scikit-learn", "sklearn", ends=REFUSED, needs=("joblib",))
def _(folder: Path) -> None:
    import joblib
    from sklearn.linear_model import LinearRegression

    joblib.dump(LinearRegression(), folder / "x.joblib")


@writer("GraphML of NetworkX", "networkx", ends=REFUSED, says="Graph")
def _(folder: Path) -> None:
    import networkx

    networkx.write_graphml(networkx.path_graph(5), folder / "x.graphml")


@writer(
    "SPSS of pyreadstat",
    "pyreadstat",
    [{"a": float(p["a"]), "b": p["b"]} for p in POINTS],
)
def _(folder: Path) -> None:
    import pandas
    import pyreadstat

    pyreadstat.write_sav(pandas.DataFrame(POINTS), str(folder / "x.sav"))


@writer("SAS transport of pyreadstat", "pyreadstat", [{"A": float(p["a"]), "B": p["b"]} for p in POINTS])
def _(folder: Path) -> None:
    import pandas
    import pyreadstat

    pyreadstat.write_xport(
        pandas.DataFrame(POINTS).rename(columns=str.upper), str(folder / "x.xpt"), table_name="X", file_format_version=5
    )


@writer("text of NumPy", "numpy", [{"a": float(p["a"]), "b": p["b"]} for p in POINTS], cells=True)
def _(folder: Path) -> None:
    import numpy as np

    data = np.array([list(p.values()) for p in POINTS])
    np.savetxt(folder / "x.csv", data, delimiter=",", header="a,b", comments="")


GRID: list[Row] = [
    {"time": n * 6, "temperature": [[n + 0.5, 1.5], [2.5, None]], "latitude": [10.0, 20.0], "station": f"s{n}"}
    for n in range(4)
]


def _grid() -> Any:
    import numpy as np
    import xarray

    values = np.array([[[row["temperature"][0][0], 1.5], [2.5, np.nan]] for row in GRID])
    return xarray.Dataset(
        {"temperature": (("time", "latitude", "x"), values), "station": ("time", [row["station"] for row in GRID])},
        coords={"time": [row["time"] for row in GRID], "latitude": [10.0, 20.0]},
    )


@writer("NetCDF 3 of xarray", "xarray", GRID, needs=("scipy",))
def _(folder: Path) -> None:
    _grid().to_netcdf(folder / "x.nc", format="NETCDF3_CLASSIC", engine="scipy")


@writer("NetCDF 4 of xarray", "xarray", GRID, needs=("netCDF4",))
def _(folder: Path) -> None:
    _grid().to_netcdf(folder / "x.nc", format="NETCDF4", engine="netcdf4")


@writer(
    "MAT 7.3 of hdf5storage",
    "hdf5storage",
    [{"X": [float(n), n + 0.5, 2.0], "y": n, "names": f"é {n}"} for n in range(4)],
)
def _(folder: Path) -> None:
    import hdf5storage
    import numpy as np

    names = np.array([[f"é {n}"] for n in range(4)], object)
    values = {"X": np.array([[n, n + 0.5, 2] for n in range(4)]), "y": np.arange(4)[:, None], "names": names}
    hdf5storage.savemat(str(folder / "x.mat"), values, format="7.3", store_python_metadata=False)
