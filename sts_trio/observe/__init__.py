"""What is told of calls: the event feed, and the log."""
