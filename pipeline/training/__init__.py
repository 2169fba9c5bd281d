"""Training and fine-tuning: recordings with timed words to a language model that writes them."""
