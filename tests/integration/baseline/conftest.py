from __future__ import annotations

import pytest
from failing_suites import Suite


@pytest.fixture
def suite(project):
    return Suite(project)
