"""What a call's own code sees of it. It has neither task nor socket."""
