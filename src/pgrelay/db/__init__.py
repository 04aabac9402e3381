"""Postgres: connections, the SQL verbs, notifications and migrations. psycopg is known here and nowhere else."""
