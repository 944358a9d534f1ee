"""What travels with the model; it imports nothing of this project from outside this folder."""

# Without this line, Metaflow leaves this package behind when it sends a flow's code away.
METAFLOW_PACKAGE_POLICY = "include"
