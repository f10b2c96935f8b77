"""Named cases that measure the installed commands, each beside a target or a reference.

``python -m benchmarks.targets`` measures speed, memory and size; ``python -m benchmarks.cloud``
sends what a cloud would send and checks every aggregate that is read back. CPU time is counted
over all processes of a command, so figures hold on a busy machine too; wall time does not.
"""
