"""The checks of ``xmodal doctor``: one file per area, with functions that yield Findings.

Packages under examination may be broken: none is imported in this process; ``probe`` imports them in a child process.
"""
