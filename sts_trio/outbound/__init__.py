"""Calls that we place, and what is asked of Twilio by its REST API."""
