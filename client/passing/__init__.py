"""A pass over a dataset, and where the dataset stands between passes."""
