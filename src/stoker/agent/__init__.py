"""What runs on a host: the fork server that starts engines, watches them, reports, and never outlives its cluster.

It is sent to hosts where stoker is not installed: beside the standard library it imports ipyparallel, ipykernel and
cloudpickle where they are used, and of stoker only ``errors`` and ``system``.
"""
