"""The rehearsal: a local AWS for everything that runs in the cloud, without an account."""
