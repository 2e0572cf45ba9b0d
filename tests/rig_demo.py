"""What a call of the demo tells when all is well."""

from sts_trio.simulate.report import Report, Turn

GOOD = Report(
    seconds=20.0,
    frames_sent=1000,
    agent_received=8.0,
    agent_heard=8.0,
    first_agent_audio=0.1,
    agent_spans=((0.1, 2.0), (5.5, 8.0)),
    turns=(Turn(3.0, 5.0, wait=0.5, talked_over=None), Turn(9.0, 10.0, wait=0.6, talked_over=0.1)),
    clears=1,
    marks=3,
    refused={},
    first_refusal="",
    out_of_time=False,
    closed_by="caller",
    close_code=1000,
    said=b"",
    heard=b"",
)
