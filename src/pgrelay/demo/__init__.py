"""The demonstration: an embedded Postgres, a sample application, and the live view of what pgrelay does with
it."""
