"""A scripted trading day against a stack of its own: a readable story in which every line was really answered."""
