"""Audio: decodes a file to samples, and cuts the samples into shards."""
