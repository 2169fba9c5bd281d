"""Everything that is Kyutai's: Mimi, the language model, checkpoints, words."""
