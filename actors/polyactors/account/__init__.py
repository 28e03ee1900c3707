"""One's own account: orders, trades, positions, and the credentials that they are asked with.

Pure like `polyactors.book`: no Trio, no sockets, no clock, no logging. What is said of an
account follows from the events it was given, in whatever order they came:

- `credentials`: the API key and its secrets, which show themselves to nobody
- `signing`: the headers that sign a REST request with them
- `orders`, `trades`: what one order and one trade are, and how an event changes them
- `refusals`: what cannot be true, and is kept for inspection
- `sums`: the filled sizes of orders, and up to where the trades are complete
- `account`: all of them, the positions, and what changed
- `reconcile`: what a reconnect missed, from the REST lists
"""
