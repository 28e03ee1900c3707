"""One's own account, live: the user channel under the same supervision as the books.

    user                ONE_FOR_ONE
    ├ account           owns the account: events of the channel, and the lists of REST
    └ user-feed         REST_FOR_ONE: connection → heartbeat → parser

- `state`: what may be believed of the account, and why not
- `checks`: what is said at once of what cannot be meant, or would show the credentials
- `line`: what outlives the actors: credentials, account, session
- `parser`, `keeper`: the actors that a feed of books has not
- `lists`: REST's lists, page by page
- `reading`, `telling`: what a program reads, and what the stream tells
- `tree`: who is whose child
"""
