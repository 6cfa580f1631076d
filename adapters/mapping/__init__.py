"""Which source columns become which schema fields: the mapping, its forms, and how it is inferred."""

from choline_data.adapters.mapping.mapping import Mapping, Normalised

__all__ = ["Mapping", "Normalised"]
