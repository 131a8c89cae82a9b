"""Messages of frameworks and runtimes, recognised and told in mlconv's words.

Each framework has one table, in the file of its name; a line is a pattern of its message and what that message means.
`tests/messages.toml` holds what triggers each, and a message that is new to mlconv is one line in both. What no table
knows keeps the framework's own words under a general id. Nothing here imports a framework: a worker's table is read by
the command too, where a worker raised what it could not judge.
"""

from mlconv.messages.table import Message, Scene, recognised, told

__all__ = ["Message", "Scene", "recognised", "told"]
