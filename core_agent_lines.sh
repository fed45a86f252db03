#!/bin/sh
# How many lines the spine has, a hello loads, every room has, and all. Needs nothing but Python 3.11.
exec python3 "$(dirname "$0")/scripts/check_budgets.py"
