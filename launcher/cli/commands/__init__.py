"""The subcommands, one module each: `ABOUT`, its line of the help page, and `main(words)`, which gives an exit code."""
