"""What a call is, without a socket or a clock: audio, playout, dialogue.

Pure: time comes in as a float of seconds, acts go out as values.
"""
