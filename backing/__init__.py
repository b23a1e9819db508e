"""Kafka, Redis and ClickHouse: given from outside, in Docker, or run here with nothing but Python.

`backing.launch` is the way in. Knows the language of the system (`schemas`) and nothing else of it.
"""
