"""A pass over a dataset, and the position of the dataset between passes."""
