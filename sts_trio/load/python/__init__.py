"""The load generator in Python, for machines without a compiler. The same lines in and out as the
one in C (`../generator`), a tenth of its calls.
"""
