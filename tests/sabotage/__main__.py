"""`python -m tests.sabotage [INVARIANT...]`, which `make sabotage` calls."""

import sys

from tests.sabotage.run import main

sys.exit(main())
