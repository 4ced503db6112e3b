"""Pretrained networks by what they read or write: ``image``, ``text`` and ``language``, one file per family."""
