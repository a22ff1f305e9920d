"""`updater lint`: does an agent keep the convention that hosts rely on? Reached from the command line alone."""
