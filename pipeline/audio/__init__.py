"""Sound: a file becomes samples, samples become shards."""
