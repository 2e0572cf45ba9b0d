"""An agent that needs no network and no key: a server of Deepgram's Voice Agent protocol."""
