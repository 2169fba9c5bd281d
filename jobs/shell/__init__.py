"""Parts that the commands share: keys, help, error messages, the terminal, logs."""
