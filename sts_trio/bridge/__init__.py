"""One call being run, and the calls of this process."""
