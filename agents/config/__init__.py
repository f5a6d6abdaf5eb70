import sys

from agents.namesakes import refuse

# Where `agents` itself is another package, this is the first of ours that a command imports, in the middle of its program.
try:
    refuse("agents")
except ImportError as error:
    sys.exit(f"error: {error}")
