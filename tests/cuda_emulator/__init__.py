"""The CUDA kernels on a CPU: every CUDA thread is a fiber (`emulator.h` says what is checked).

`rewrite.py` changes what only nvcc understands, `library.py` builds and loads the result, and
`sanitized.py` runs it under AddressSanitizer and ThreadSanitizer.
"""
