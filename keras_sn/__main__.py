"""`python -m keras_sn`: the command line."""

import sys

from keras_sn.cli import main

if __name__ == "__main__":
    sys.exit(main())
