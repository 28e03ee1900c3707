"""The wire: text frames and REST bodies in, frozen messages out, and frames to send.

Pure like `polyactors.book`: no I/O, no clock, no randomness, no logging. What the exchange may
say, in every form it ever said it, is known here and nowhere else:

- `events`: what the market channel says, one frozen class per event
- `codec`: a text frame becomes events, and what is no event is accounted for
- `user_events`, `user_codec`, `user_rest`: the same for the user channel and its REST lists
- `subscription`: the frames that a client sends
- `rest`: bodies of the CLOB's and Gamma's REST answers; `listings`: their markets
"""
