"""What `scripts/check_budgets.py` looks at: sizes, prices and widths of the design. Standard library only."""
