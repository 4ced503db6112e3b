"""From a sequence to one vector.

``build(dim, ...)`` gives a module (states (items, longest, dim), mask (items, longest) bool) -> (items, dim); what
stands outside the mask has no influence. ``dim`` is the length of a state.
"""
