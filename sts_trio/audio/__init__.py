"""µ-law, 8 kHz, mono, and what is made of it. Pure."""
