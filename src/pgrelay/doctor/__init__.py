"""One webhook, looked into: a test request past the queue, and what each step of it tells."""
