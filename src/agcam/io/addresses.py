"""Files on disk and at the addresses that fsspec knows, such as `s3://`, `gs://` and `hf://`."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from agcam.errors import DataError, InputError, brief

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


class Address(str):
    """A path on disk, or an address with a protocol."""

    __slots__ = ()
    completes_files = True
    """Shells complete an option of this type with files."""

    @property
    def is_remote(self) -> bool:
        """Whether fsspec has to open it."""
        return "://" in self

    @property
    def folder(self) -> str:
        """What lies before the last slash; "" if there is none."""
        return self.rpartition("/")[0]

    @property
    def suffix(self) -> str:
        """The end of the last name from its last dot on, in small letters; "" if there is none."""
        return posixpath.splitext(self)[1].lower()


def beside(file: Address, name: str) -> Address:
    """Resolve a name that a file lists: absolute, an address, or relative to the folder that the file lies in."""
    if Address(name).is_remote or name.startswith("/") or not file.folder:
        return Address(name)
    return Address(f"{file.folder}/{name}")


def read_bytes(address: Address) -> bytes:
    """Read a file whole.

    Raises:
        DataError: if it cannot be read.
        InputError: if the package that knows such addresses is not installed.
    """
    with file_system(address) as (files, path):
        content: bytes = files.cat_file(path)  # one request, where opening asks for the size first
    return content


@contextmanager
def opened(address: Address) -> Iterator[IO[bytes]]:
    """Open a file for reading within the block.

    Raises:
        DataError: if it cannot be opened or, within the block, not be read.
        InputError: if the package that knows such addresses is not installed.
    """
    if not address.is_remote:
        with _clear(address), Path(address).open("rb") as file:
            yield file
        return
    import fsspec  # with all that it imports, for this alone

    with _clear(address):
        _check_protocol(address)
        with fsspec.open(address, "rb") as file:
            yield file


@contextmanager
def file_system(address: Address) -> Iterator[tuple[AbstractFileSystem, str]]:
    """Yield fsspec's file system of an address, and the address as it calls it.

    Raises:
        DataError: if it cannot be reached or, within the block, not be read.
        InputError: if the package that knows such addresses is not installed.
    """
    import fsspec  # as above

    with _clear(address):
        if address.is_remote:
            _check_protocol(address)
        # what was listed would be kept for good
        options: dict[str, Any] = {} if address.startswith("memory://") else {"use_listings_cache": False}
        yield fsspec.core.url_to_fs(address, **options)


def _check_protocol(address: Address) -> None:
    from fsspec.registry import available_protocols

    if (protocol := address.partition("://")[0]) not in available_protocols():
        raise InputError(f"{address}: fsspec knows no {protocol}://; is it the right address?")


@contextmanager
def _clear(address: Address) -> Iterator[None]:
    """Turn any error within the block into one of ours that names the address."""
    try:
        yield
    except (DataError, InputError, MemoryError):
        raise
    except FileNotFoundError:
        raise DataError(f"{address}: no such file or folder") from None
    except ImportError as error:
        raise InputError(f"{address}: a package is missing ({brief(error)})") from error
    except Exception as error:  # each service raises its own
        raise DataError(f"{address}: cannot be read ({brief(error)})") from error
