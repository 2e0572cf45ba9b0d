"""The way to agents: who answers a call, and a leg to them."""
