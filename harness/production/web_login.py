"""Checks a password against its bcrypt hash without stopping the loop, and remembers the answer."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import importlib
import secrets
from collections.abc import Mapping
from typing import Final

_REMEMBERED: Final = 100
_AT_A_TIME: Final = 2
_NOBODY: Final = b"$2b$10$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"
"""Checked for unknown names, so that the time of the answer does not say which exist."""


class Login:
    """
    Who may read.

    Args:
        users: name → bcrypt hash; empty: everybody.
    """

    def __init__(self, users: Mapping[str, bytes]) -> None:
        self.users = users
        self._key = secrets.token_bytes(32)
        self._known: dict[bytes, bool] = {}
        self._turn = asyncio.Semaphore(_AT_A_TIME)

    async def allows(self, authorization: bytes | None) -> bool:
        """
        Whether a request with this header may be answered.

        Args:
            authorization: value of the header; None: there was none.
        """
        if not self.users:
            return True
        if authorization is None:
            return False
        # Kept as a keyed digest: a dump of memory must not show passwords.
        digest = hmac.digest(self._key, authorization, "sha256")
        if digest in self._known:
            return self._known[digest]
        async with self._turn:
            right = await asyncio.to_thread(self._check, authorization)
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[digest] = right
        return right

    def _check(self, authorization: bytes) -> bool:
        bcrypt = importlib.import_module("bcrypt")
        scheme, _, blob = authorization.partition(b" ")
        try:
            name, colon, password = base64.b64decode(blob, validate=True).partition(b":")
        except binascii.Error:
            return False
        if scheme.lower() != b"basic" or not colon:
            return False
        digest = self.users.get(name.decode("utf-8", "replace"), _NOBODY)
        # bcrypt uses 72 bytes and refuses more; a longer password cannot be a right one.
        right = bool(bcrypt.checkpw(password[:72], digest)) and len(password) <= 72  # noqa: PLR2004
        return right and digest is not _NOBODY
