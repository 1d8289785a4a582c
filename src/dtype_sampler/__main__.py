"""`python -m dtype_sampler`: the command `dtype-sampler`."""

import sys

from dtype_sampler.commands.main import main

sys.exit(main())
