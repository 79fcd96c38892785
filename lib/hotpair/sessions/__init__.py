"""Session tables of firewalls and proxies: read on the master, written on the standby."""
