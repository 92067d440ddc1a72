"""What the fixtures for pytest do, which pytest finds in `_tenure_pytest_plugin`, and why a test failed."""
