"""`python -m dtype_sampler`: the command `dtype-sampler`."""

import sys

from dtype_sampler.cli import main

sys.exit(main())
