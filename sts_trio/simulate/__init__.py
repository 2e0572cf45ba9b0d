"""Callers without a phone: Twilio's side of a Media Stream, played by us."""
