"""What several tests share: each module is one helper, named after the idea."""
