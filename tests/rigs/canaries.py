"""Invented secrets: planted where real secrets are, and searched for where no secret may be."""

import base64
import re
import secrets
from dataclasses import dataclass, field


@dataclass
class Canaries:
    """Each planted marker and its place."""

    places: dict[str, str] = field(default_factory=dict)

    def plant(self, place: str) -> str:
        """A new marker. It has only letters and digits, so that no escaping changes it."""
        marker = f"canary{secrets.token_hex(10)}"
        self.places[marker] = place
        return marker

    def found_in(self, text: bytes) -> set[str]:
        """The places whose markers are in `text`: in upper or lower case, in hexadecimal, or within base64."""
        lowered = text.lower()
        plain = {found.decode() for found in re.findall(rb"canary[0-9a-f]{20}", lowered)}
        places = {self.places[marker] for marker in plain if marker in self.places}
        for marker, place in self.places.items():
            if marker.encode().hex().encode() in lowered or any(form in text for form in _in_base64(marker)):
                places.add(place)
        return places


def _in_base64(marker: str) -> list[bytes]:
    """The marker's base64 within a longer text: one form for each of the three offsets at which it may begin."""
    forms = []
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + marker.encode())
        # The first and last characters also depend on the bytes beside the marker.
        forms.append(encoded[4 if before else 0 : -4])
    return forms
