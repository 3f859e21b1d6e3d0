"""How much memory the proxy's process takes, as Linux accounts for it."""

from dataclasses import dataclass
from pathlib import Path

from rigs.running_proxy import RunningProxy
from soak.process import proxy_pid


@dataclass(frozen=True)
class Memory:
    process: Path  # its folder in /proc

    def begin(self) -> int:
        """The memory in bytes now. The peak is counted from here on."""
        (self.process / "clear_refs").write_text("5")
        return self._read_bytes("VmRSS")

    def peak(self) -> int:
        return self._read_bytes("VmHWM")

    def _read_bytes(self, key: str) -> int:
        (line,) = [line for line in (self.process / "status").read_text().splitlines() if line.startswith(key)]
        return int(line.split()[1]) * 1024


def memory_of(proxy: RunningProxy) -> Memory:
    """Raises LookupError where it isn't running."""
    return Memory(Path(f"/proc/{proxy_pid(proxy.spans)}"))
