"""Everything is declared in pyproject.toml; compiled extensions, which need code to configure, are declared here."""

from setuptools import setup

setup()
