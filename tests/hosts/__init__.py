"""Several hosts: programs in network namespaces of their own."""
