"""What an exchange keeps of its request, within bounds of its own and a budget for all exchanges. Pure.

    Kept ◀── Exchange     (two objects would cost each request some 0.3 µs)

A request's body is kept while it may have to be sent again, or changed, or copied. Its parameters are read at the end
if it is short. A long one is skimmed as it comes, whether it is kept or not. That takes long, as does looking into a
large response. It is done in stretches, between which the event loop serves others: then the exchange is `behind`, and
`look()` does one stretch.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from dyno_proxy.http.content_coding import Decompressor, UndecodableError
from dyno_proxy.readers import RequestBody, Skim, read_request, skim_request

from .budget import ALL, Budget

KEPT_REQUEST_BYTES: Final = 8 * 1024 * 1024  # a longer body is neither sent again nor changed nor copied
KEPT_UPLOAD_BYTES: Final = 64 * 1024  # the same, where the path is none of the known APIs'
SHORT_BYTES: Final = 32 * 1024  # of a body that is decoded in one go, which takes 3 ms at the worst
PLAIN_REQUEST_BYTES: Final = 64 * 1024 * 1024  # of a compressed request: a longer one isn't read further
_SMALL_PIECE_BYTES: Final = 1024
_FAR_BEHIND_BYTES: Final = 256 * 1024
STRETCH_BYTES: Final = 4 * 1024  # of plain text that `look()` takes at once: 2 ms at the worst

# Why a body isn't looked into
NO_MEMORY: Final = "no_memory"  # all exchanges together keep as much as they may
TOO_COMPLEX: Final = "too_complex"  # it has so many brackets or members that reading them would take too long


class Upstream(Protocol):
    """Where the response comes from, as far as the exchange holds it back."""

    def hold_back(self) -> None:
        """Read nothing more until `go_on()`."""
        ...

    def go_on(self) -> None:
        """The exchange has caught up."""
        ...


class UsageAsking(Protocol):
    """Who decides whether streams' usage is asked for."""

    def answered(self, status: int, refusal: bytes, *, asked: bool) -> None:
        """A stream had this status, and this body where that refuses it. `asked`: it had our `stream_options`."""
        ...


def end_of_stretch(plain: bytes, at: int, *, streamed: bool) -> int:
    """Where a stretch ends that begins at `at`: in a stream, if possible, where an SSE event ends, too."""
    end = at + STRETCH_BYTES
    if not streamed or end >= len(plain):
        return min(end, len(plain))
    return plain.rfind(b"\n\n", at, end) + 2 if plain.find(b"\n\n", at, end) >= 0 else end


@dataclass(slots=True, eq=False, repr=False)
class Kept(ABC):
    """The part of an exchange that keeps its request."""

    received_ns: int
    started_at_unix_us: int
    method: str
    path: str
    operation: str | None = None

    request_body: list[bytes] = field(default_factory=list)
    request_bytes: int = 0
    request_kept: bool = True  # all of the body so far is in `request_body`
    request_needed: bool = True  # the body may yet have to be changed, copied or sent again, even if a response comes
    request_codings: tuple[bytes, ...] = ()  # its content codings; it is passed on as it is, and a copy is decompressed
    request_unread: str | None = None  # why its parameters are unknown

    budget: Budget = ALL
    look_later: "Callable[[Kept], None] | None" = None  # sees to it that `look()` is called; None: it is at once
    upstream: "Upstream | None" = None  # is held back while the exchange is far behind
    _kept_bytes: int = 0  # of the budget
    _request_kept_bytes: int = 0  # of these, the request's body
    _asked: tuple[bytes, ...] = ()  # pieces of a long request that aren't looked into yet
    _asked_left_bytes: int = 0  # that `_asked_skim` hasn't got yet
    _asked_skim: Skim | None = None
    _asked_decompressor: Decompressor | None = None
    _looking: Iterator[None] | None = None  # set while the exchange is behind
    _reads_behind: bool = False  # reads of the response are held that `look()` has to look into

    def release(self) -> None:
        """The Record is made: keep nothing any more."""
        self.upstream = None  # by now it serves others
        self.request_body = []
        if self._kept_bytes:
            self._asked = ()
            self._uncount(self._kept_bytes)

    def keep(self, size_bytes: int) -> bool:
        """Whether so much more may be kept beside all that other exchanges keep."""
        if not self.budget.take(size_bytes):
            return False
        self._kept_bytes += size_bytes
        return True

    def _uncount(self, size_bytes: int) -> None:
        size_bytes = min(size_bytes, self._kept_bytes)  # after `release()` nothing is left
        self._kept_bytes -= size_bytes
        self.budget.give_back(size_bytes)

    def take_request(self, piece: bytes) -> None:
        """Take the next bytes of the request's body. Afterwards `request_kept` says whether it is kept whole."""
        self.request_bytes += len(piece)
        if self.request_kept:
            pieces = self.request_body
            if pieces and len(pieces[-1]) < _SMALL_PIECE_BYTES and len(piece) < _SMALL_PIECE_BYTES:
                pieces[-1] += piece  # a hundred thousand pieces would take more memory than their bytes
            else:
                pieces.append(piece)
        if self.request_bytes > SHORT_BYTES or self.request_codings:
            self._take_long_request(piece)

    def _take_long_request(self, piece: bytes) -> None:
        if self.operation is not None and self.request_unread is None:
            new: tuple[bytes, ...] = (piece,)
            if self._asked_skim is None:
                self._asked_skim = skim_request()
                new = tuple(self.request_body)
            new_bytes = sum(map(len, new))
            if self.keep(new_bytes):
                self._asked += new
                self._asked_left_bytes += new_bytes
                self._look_soon()
            else:
                self.request_unread = NO_MEMORY
                self._asked = ()
        if self.request_kept:
            most_bytes = KEPT_UPLOAD_BYTES if self.operation is None else KEPT_REQUEST_BYTES
            more_bytes = self.request_bytes - self._request_kept_bytes
            if self.request_bytes <= most_bytes and self.keep(more_bytes):
                self._request_kept_bytes += more_bytes
            else:
                self.forget_request()

    def forget_request(self) -> None:
        """Keep the body no longer, since nobody sends it again. A short one is still read at the end."""
        if self.request_bytes > SHORT_BYTES:
            self.request_kept = False
            self.request_body = []
            self._uncount(self._request_kept_bytes)
            self._request_kept_bytes = 0

    @property
    def request_behind(self) -> bool:
        """Whether much of what came of the request's body isn't looked into yet."""
        return self._asked_left_bytes > _FAR_BEHIND_BYTES and self.request_unread is None

    @property
    def request_read(self) -> bool:
        """Whether all that came of the request's body has been looked into, or nobody does so."""
        return self._asked_left_bytes == 0 or self.request_unread is not None

    @property
    def request_members(self) -> list[tuple[str, int, int]] | None:
        """A long request's members that matter, each with its key and where its value begins and ends in the body.

        None for a short one. None are found in what isn't a whole JSON object, or is compressed.
        """
        if self.request_codings:
            return []
        if self.request_bytes <= SHORT_BYTES:
            return None
        skim = self._asked_skim
        return skim.members if skim is not None and skim.whole and self.request_unread is None else []

    def look(self) -> bool:
        """Do one stretch of what takes long. Returns whether there is more."""
        if self._looking is None:
            return False
        try:
            next(self._looking)
        except StopIteration:
            self._looking = None
        return self._looking is not None

    def _look_soon(self) -> None:
        if self._looking is None:
            self._looking = self._stretches()
            if self.look_later is not None:
                self.look_later(self)
        while self.look_later is None and self.look():
            pass

    def _stretches(self) -> Iterator[None]:
        while self._asked or self._reads_behind:
            if self._asked:
                yield from self._look_into_request()
            else:
                yield from self._look_into_reads()

    def _look_into_request(self) -> Iterator[None]:
        pieces, self._asked = self._asked, ()
        for piece in pieces:
            try:
                for plain in self._plain_request(piece):
                    for at in range(0, len(plain), STRETCH_BYTES):
                        if self._asked_skim is not None and not self._asked_skim.given_up:
                            self._asked_skim.feed(plain[at : at + STRETCH_BYTES])
                            yield
            except UndecodableError as error:
                self.request_unread = error.why
                break
            self._asked_left_bytes -= len(piece)
        self._uncount(sum(map(len, pieces)))

    def _plain_request(self, piece: bytes) -> Iterator[bytes]:
        if not self.request_codings:
            return iter((piece,))
        if self._asked_decompressor is None:
            self._asked_decompressor = Decompressor(self.request_codings, PLAIN_REQUEST_BYTES)
        return self._asked_decompressor.pieces(piece)

    @abstractmethod
    def give_up(self, why: str) -> None:
        """Drop what isn't read yet, since reading it failed. `why` becomes `unread`."""

    @abstractmethod
    def _look_into_reads(self) -> Iterator[None]:
        """Look into the reads held, in stretches. Afterwards none is, unless more have come meanwhile."""

    def _request(self) -> RequestBody:
        if self.operation is None or self.request_unread is not None:
            return RequestBody()
        if self._asked_skim is None:
            return read_request(b"".join(self.request_body))
        skimmed = self._asked_skim.finish()
        if skimmed is None:
            self.request_unread = TOO_COMPLEX
            return RequestBody()
        return read_request(skimmed)
