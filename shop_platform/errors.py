"""Every error that the platform raises on purpose; each says what happened, where, and what to do."""


class ShopPlatformError(Exception):
    """Base of all errors that the platform raises on purpose."""


class SettingsError(ShopPlatformError):
    """A setting is missing, malformed or contradicts another."""


class UnsafeConnectionError(SettingsError):
    """A setting asks for a connection to another host that others could read or take over."""


class ServiceError(ShopPlatformError):
    """A server could not be started, found, reached or stopped."""


class BusyError(ShopPlatformError):
    """Somebody else does what only one may do at a time."""


class StorageError(ShopPlatformError):
    """A file, a folder or a disk does not take what is to be stored."""


class SourceError(ShopPlatformError):
    """A source of shop data is missing, unreadable or does not fit its mapping."""


class DataError(ShopPlatformError):
    """Stored data breaks a promise that the platform makes about it."""


class SchemaError(DataError):
    """The database's schema, or an index, is of another version than this platform, or can't be brought to it."""


class MeasurementError(ShopPlatformError):
    """Two measurements can't be compared honestly."""


class ModelError(ShopPlatformError):
    """An embedding model, or an artefact made with one, is missing or not what it should be."""
