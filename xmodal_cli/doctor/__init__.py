"""What ``xmodal doctor`` looks at: one file = one area, each a function that gives Findings. Standard library first.

What is examined may be broken, so nothing here imports torch or another heavy package into this process: ``probe`` does
that in a child.
"""
