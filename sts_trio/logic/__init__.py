"""What a call is, without a socket or a clock. Pure: time comes in as a float of seconds, acts go
out as values.

Who may import whom (`tests/logic/test_logic_layers.py` holds to it):

- `acts`, `states`, `policy`, `spelling` and the audio modules are vocabulary, for all.
- `stream`, `session`, `closing`, `turns`, `function_calls`, `requests`, `answer_watch`, `limits`,
  `handing_over`, `caller_audio`, `keypad` and `output` are siblings: none imports another.
- A part that is owned by another is imported by its owner: `reconnect` by `session`; `agent_audio`,
  `carryover`, `history`, `playout` and `rest` by `turns`, `playout` and `rest` by `agent_audio`,
  `history` by `carryover`; `hearing_out` by `closing` and `handing_over`.
- `parts` composes the siblings. Each message is brought to one of them: the agent's by
  `agent_messages`, the clock's by `due`, all others by `routes`, which has the table of them all.
  `dialogue` is their face. Each of these imports those before it, never back.
"""
