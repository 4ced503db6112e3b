"""``xmodal serve``: a web application and an HTTP API for the indexes, training runs and datasets of this machine.

Built on Starlette. ``application`` assembles the routes; ``guard`` refuses foreign requests. ``search_service``,
``photo_views``, ``caption_service``, ``run_service`` and ``dataset_service`` do the work in threads of their own, so
that the server responds while they compute.
"""
