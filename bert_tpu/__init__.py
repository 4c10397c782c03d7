"""Compact BERT encoders, pretrained in JAX on TPU pods, exported to PyTorch."""

import gc
import signal
import sys

__version__ = "0.2.0.dev0"

if sys.argv[:1] == ["-m"] and any(word.startswith(("bert_tpu.", "tools.")) for word in sys.orig_argv):
    # Python looks for the command to run, one of ours; it will import for seconds. What imports make stays: looking
    # through it for garbage takes a quarter of them. Ctrl-C has nothing to undo yet. `command.run` ends both.
    gc.disable()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
