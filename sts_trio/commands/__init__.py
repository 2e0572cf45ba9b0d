"""The commands of `sts-trio` that are more than a few lines, and what they all share."""
