"""Admission: may this be spent, and holds on what may. Atomic in Redis beside the accounts, which it never writes."""
