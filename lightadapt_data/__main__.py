"""`python -m lightadapt_data VERB ...`."""

import sys

from lightadapt_data.cli import main

if __name__ == "__main__":
    sys.exit(main())
