"""The copy that the master sends to the standby every 15 minutes."""
