"""The tree of errors that a user can cause or must know of.

CrosyslogError
├── InputError           a file or stream of lines cannot be used
│   ├── SystemProfileError   a system profile is unknown or malformed
│   └── LabelError           labels are missing, malformed or do not fit
├── SettingError         a setting or command-line value is unknown or impossible
├── EncoderError         an encoder is unknown, or its vectors do not belong here
├── BundleError          a bundle cannot be loaded
│   ├── BundleCorruptError   its content is not what its manifest says
│   └── BundleVersionError   it was made for another format, masking or encoder
├── StoreError           the store of bundles cannot be read or written
│   └── StoreAwayError       it cannot be reached now
├── BrokerError          the Kafka cluster cannot be reached or used
└── ToolMissingError     a program that is needed is not installed

A message is one line: what was wrong, where, and what to do. The commands print it and exit with 2.
"""


class CrosyslogError(Exception):
    """The root of all errors that CroSysLog raises on purpose."""


class InputError(CrosyslogError):
    """A file or stream of lines cannot be used."""


class SystemProfileError(InputError):
    """A system profile is unknown or malformed."""


class LabelError(InputError):
    """Labels are missing, malformed or do not fit the lines."""


class SettingError(CrosyslogError):
    """A setting or command-line value is unknown or impossible."""


class EncoderError(CrosyslogError):
    """An encoder is unknown, or its vectors do not belong here."""


class BundleError(CrosyslogError):
    """A bundle cannot be loaded."""


class BundleCorruptError(BundleError):
    """A bundle's content is not what its manifest says."""


class BundleVersionError(BundleError):
    """A bundle was made for another format, masking or encoder."""


class StoreError(CrosyslogError):
    """The store of bundles cannot be read or written."""


class StoreAwayError(StoreError):
    """The store cannot be reached now; nothing is known to be wrong with it."""


class BrokerError(CrosyslogError):
    """The Kafka cluster cannot be reached or used."""


class ToolMissingError(CrosyslogError):
    """A program that is needed is not installed."""
