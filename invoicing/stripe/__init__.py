"""Stripe, where it is used: our invoices and payment intents pushed to it, and what it says back.

Everything works without it. It is a mirror: what is billed is decided in our log, and Stripe collects it.
"""
