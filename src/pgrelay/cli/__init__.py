"""The command line: arguments to verbs, rows to words.

Nothing is decided here that SQL or a lower floor could decide. Modules import only what parsing and printing need;
a command imports psycopg, asyncio or aiohttp when it runs, so that `pgrelay --help` answers at once.
"""
