"""One suite for each interface, written against the interface alone."""

import pytest

pytest.register_assert_rewrite(
    *(f"tests.conformance.{name}" for name in ("incoming", "models", "storage", "waiting"))
)
