"""One Metaflow flow a file."""
