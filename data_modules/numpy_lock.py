"""One thread at a time reads the headers of NumPy's files."""

import threading

HEADER_LOCK = threading.Lock()
"""Held while NumPy opens a file of its own.

It parses the header as Python, and up to Python 3.11.7 two threads that do so at a time may end in `SystemError: AST
constructor recursion depth mismatch` (CPython issue 106905).
"""
