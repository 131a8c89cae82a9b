"""What runtimes load: opsets, IR versions and operators of their releases, as data with its source, and its reader."""
