"""The page: what the REST API does, for people with a browser. Made on the server, without JavaScript."""
