"""Poolings of a sequence into one vector.

``build(dim, ...)`` returns a module: states (items, longest, dim), mask (items, longest) bool -> (items, dim). States
outside the mask have no influence.
"""
