"""Estimates the cost of a `where` before it is evaluated: for each part of the predicate, the bytes that it reads.

A unit is about a nanosecond of one core. The factors are measured. Arrow compares and counts at about 1 GB/s. A pattern
with both _ and % may leave RE2's fast path; it then takes about 5 ns per byte for each character of the pattern.
"""

from __future__ import annotations

from collections.abc import Mapping

from choline_data.where.predicate import And, Compare, Field, In, IsNull, Length, Like, Node, Not, Or, Predicate

_ROW = 100  # units for each row and each part of the predicate, in addition to those for the bytes that it reads
_JSON = 20  # units per byte to parse `extra`, once for all parts
_SLOW_PATTERN = 5
_PATTERN = 8


def work_of(predicate: Predicate, row_bytes: Mapping[str, float]) -> float:
    """Returns the cost in units per row. `row_bytes` has the mean bytes per row of each column."""
    parsed = _JSON * row_bytes.get("extra", 0.0) if any(field.path for field in predicate.fields) else 0.0
    return parsed + _work_of_node(predicate.tree, row_bytes)


def _work_of_node(node: Node, row_bytes: Mapping[str, float]) -> float:
    match node:
        case And() | Or():
            return sum(_work_of_node(term, row_bytes) for term in node.terms)
        case Not():
            return _work_of_node(node.term, row_bytes)
        case IsNull():
            return _ROW
        case Like():
            slow = "%" in node.pattern and "_" in node.pattern
            factor = _SLOW_PATTERN * len(node.pattern) if slow else _PATTERN
            return _ROW + factor * _bytes(node.field, row_bytes)
        case In():
            return len(node.values) * (_ROW + _bytes(node.operand, row_bytes))
        case Compare():
            return _ROW + _bytes(node.operand, row_bytes)


def _bytes(operand: Field | Length, row_bytes: Mapping[str, float]) -> float:
    field = operand.field if isinstance(operand, Length) else operand
    return row_bytes.get(field.name.partition(".")[0], 0.0)
