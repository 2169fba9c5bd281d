"""`python -m nightscribe COMMAND ...`"""

from nightscribe.jobs.cli import main

main()
