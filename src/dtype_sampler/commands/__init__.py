"""The command `dtype-sampler`: the parser is in `main`, each group of commands in a module."""
