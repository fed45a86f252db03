#!/bin/sh
# How many lines the core has, and every other room. Needs nothing but Python 3.11.
exec python3 "$(dirname "$0")/scripts/check_budgets.py"
