"""Folders with Zarr stores in which every byte is accounted for.

They know nothing of what is in them: arrays, groups, and a manifest that says what each
file has to be.
"""

from ._checked import CheckedStore as CheckedStore, FILES as FILES, GROUP as GROUP
from ._folder import (
    as_path as as_path,
    check_own as check_own,
    Lock as Lock,
    lock as lock,
    move_to as move_to,
    open_for_reading as open_for_reading,
    open_for_writing as open_for_writing,
    put_back as put_back,
    read_manifest as read_manifest,
    replace as replace,
    Settled as Settled,
    standing as standing,
    unfinished as unfinished,
)
