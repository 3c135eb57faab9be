"""What starts the ranks of a group, one module each: a command and the environment that it is given.

Ranks find the launcher by `wire.channel.SOCKET_VARIABLE`, whatever has started them.
"""
