"""How long a test waits: never for speed."""

# Seconds that only what hangs takes, however busy the machine is.
HANG = 120.0
