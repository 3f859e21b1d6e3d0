"""Result files of other tools, one file a format. Pure."""
