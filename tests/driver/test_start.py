import subprocess
import sys

import pytest

from rigs.programs import children_cpu_s

# Importing any of these takes longer than --help may take in all.
HEAVY = ("aiohttp", "datasets", "numpy", "pandas", "pyarrow", "rich")


@pytest.mark.parametrize("command", ["dyno_driver.commands.compare", "dyno_driver.commands.drive"])
def test_help_is_quick(command: str) -> None:
    """--help answers at once: the best of five fresh processes takes little CPU time, and imports nothing heavy."""
    program = (
        f"import sys, {command}\n"
        "try:\n    sys.argv[0] = 'dyno'\n    code = " + f"{command}.main(['--help'])\n"
        "except SystemExit as end:\n    code = end.code\n"
        f"print('heavy:', [name for name in {HEAVY} if name in sys.modules])\n"
        "sys.exit(code)"
    )
    cpu_s = []
    for _ in range(5):
        before_s = children_cpu_s()
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        cpu_s.append(children_cpu_s() - before_s)
        assert "example" in done.stdout
        assert done.stdout.endswith("heavy: []\n")
    assert min(cpu_s) < 0.5, cpu_s  # with a margin for slow machines; the list above is what matters
