"""The command ``mmskin``, also as ``python -m mmskin``."""

import signal
import sys

HEARD = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not where a shell has it ignored
if HEARD and __name__ != '__mp_main__':
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ends it without a traceback of imports

from mmskin.cli import main  # noqa: E402 (takes a tenth of a second)


def run() -> int:
    """The exit status; Ctrl-C leaves no traceback, also before the command begins and after its end."""
    if not HEARD:
        return main()
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return main()
    except KeyboardInterrupt:  # before it could be answered in one line
        return 128 + signal.SIGINT
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == '__main__':
    sys.exit(run())
