"""What this daemon does and how it goes, as Prometheus reads it.

`counted` listens to observations, and is told of round trips and of the event loop; `figures` holds what was last read
of the database. Nothing here asks the database: a scrape costs it nothing.

Labels are bounded: kinds of errors, verbs, chores and connections, which the program knows beforehand, and the ids of
the first so many webhooks.
"""
