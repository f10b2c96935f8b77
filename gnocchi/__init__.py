"""A multi-tenant database of time series, aggregated as measures arrive."""

__version__ = "4.8.0"
