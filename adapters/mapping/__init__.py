"""Maps source columns to schema fields: the mapping, its forms, and the inference of a mapping from the columns."""

from choline_data.adapters.mapping.infer import Candidate, choice_needed, infer, unsure
from choline_data.adapters.mapping.mapping_value import Mapping, Normalised

__all__ = ["Candidate", "Mapping", "Normalised", "choice_needed", "infer", "unsure"]
