"""Bodies that come compressed."""

import zlib


class Decoder:
    """Undoes gzip and deflate, no further than anybody wants to read."""

    def __init__(self, *, gzip: bool) -> None:
        self._gzip = gzip
        self._inflate: zlib._Decompress | None = None

    @classmethod
    def of(cls, encoding: bytes) -> "Decoder | None":
        """For a Content-Encoding; None for one that is left as it is."""
        match encoding.strip().lower():
            case b"gzip" | b"x-gzip":
                return cls(gzip=True)
            case b"deflate":
                return cls(gzip=False)
        return None

    @property
    def has_ended(self) -> bool:
        """All that is compressed was there."""
        return self._inflate is not None and self._inflate.eof

    @property
    def at_end(self) -> bool:
        """All of it was there, or nothing at all."""
        return self._inflate is None or self._inflate.eof

    def decode(self, part: bytes, most: int) -> bytes:
        """Of this part, at most so many bytes; zlib.error for what is not compressed so."""
        if self._inflate is None:
            # RFC 9110, section 8.4.1.2: deflate is zlib's format, and some send the bare one; the first byte tells
            bare = -15 if part[0] & 0x0F != 8 else 15
            self._inflate = zlib.decompressobj(31 if self._gzip else bare)
        return self._inflate.decompress(part, most)
