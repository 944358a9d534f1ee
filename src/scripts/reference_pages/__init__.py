"""The pages of docs/reference, made of the code and the configuration that they are about."""
