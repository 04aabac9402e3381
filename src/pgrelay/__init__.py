"""pgrelay: row changes in Postgres become signed webhook deliveries, recorded in Postgres."""

__version__ = "0.1.0"
