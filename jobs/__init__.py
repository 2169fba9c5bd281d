"""One file is one command. The only folder that imports hydra."""
