"""Everything about the distribution is in setup.cfg."""

import setuptools

setuptools.setup()
