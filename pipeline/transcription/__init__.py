"""One device, no Ray: sound in, words out."""
