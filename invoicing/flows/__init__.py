"""What happens around us when something happens here: our own events, and what is done about each.

Money moves in the customer's lane alone; see `rating.effects`. Here other services are told (receipts, invoices, states
of orders) and what they must be asked for becomes a command. README.md of this folder shows each flow with its events.
"""
