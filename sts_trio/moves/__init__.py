"""A call that another process goes on with, after its own has died, stands still, or was told to
stop. `decision` says whether, `past` what of the call is to be known."""
