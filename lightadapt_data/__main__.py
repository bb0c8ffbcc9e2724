"""`python -m lightadapt_data VERB ...`."""

import os
import sys

# pydantic would otherwise read the metadata of every installed package, 0.1 s at each start.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

from lightadapt_data.cli import main

if __name__ == "__main__":
    sys.exit(main())
