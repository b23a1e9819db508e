"""What the pipeline is compared with: each a program of its own, run beside it on the same topic in the same minutes.

Each takes the address of Kafka (and of Redis), says on standard output in one line of JSON how many records it took in
how many seconds, and how much CPU of its own, and ends. Their clocks start when they are connected and positioned.
"""
