"""One pytest session: the plugin itself. Its hooks are in `hooks` and `controller`."""
