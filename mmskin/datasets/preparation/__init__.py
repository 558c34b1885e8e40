"""Published collections, fetched, checked and unpacked, for ``mmskin prepare`` and ``mmskin samples``."""
