"""One engine for SQLite and PostgreSQL: opened by URL, migrated, with one writer at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa

from m6rec.errors import DataError, StoreError
from m6rec.store.schema import VERSION

LOCK = 6_703_632  # of PostgreSQL: whoever writes to a store of this database holds it
PATIENCE = 30.0  # seconds to wait for a lock or a connection
CONNECTIONS = 8  # at most; of a process
EXTRAS = {"sqlite": "serve", "postgresql": "postgres"}
PRAGMAS = (
    f"PRAGMA busy_timeout = {int(PATIENCE * 1000)}",
    "PRAGMA synchronous = FULL",  # in WAL mode NORMAL may lose the last commits
    "PRAGMA secure_delete = ON",  # what is erased is overwritten
    "PRAGMA cache_size = -8000",  # KiB, of each connection
    "PRAGMA wal_autocheckpoint = 8000",  # pages; the default copies hot pages too often
)
# Every connection is in autocommit mode, so a transaction is what stands between these.
BEGIN = {
    "sqlite": "BEGIN IMMEDIATE",
    "postgresql": (
        f"BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '{PATIENCE:g}s'; "
        f"SELECT pg_advisory_xact_lock({LOCK})"
    ),
}
SETTINGS = (
    # An acknowledged write is on disk, whatever the server's default.
    "SELECT set_config('synchronous_commit', 'on', false) "
    "WHERE current_setting('synchronous_commit') = 'off'",
    "SET idle_in_transaction_session_timeout = '60s'",  # who hangs does not keep the lock
)
ALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}  # s, s, probes


class Database:
    """Statements in, rows out; errors are StoreErrors of one sentence, without a password."""

    def __init__(self, engine: sa.Engine, name: str) -> None:
        self.engine = engine
        self.name = name
        self._kept: dict[sa.Executable, tuple[str, Mapping[str, Any], list[str] | None]] = {}
        driver = engine.dialect.loaded_dbapi
        self._driver_error: type[Exception] = driver.Error  # of what does not go by SQLAlchemy
        self._data_error: type[Exception] = driver.DataError

    @classmethod
    def open(cls, url: str, create: bool = True) -> Self:
        """Open, and bring the tables to the newest version."""
        address, name = _address(url)
        file = address.database if address.drivername == "sqlite" else None
        if not create and file is not None and not Path(file).exists():
            raise StoreError(f"{name}: no such file; check the URL of the store")
        try:
            engine = sa.create_engine(
                address,
                isolation_level="AUTOCOMMIT",
                skip_autocommit_rollback=True,
                pool_size=CONNECTIONS,
                max_overflow=0,
                pool_timeout=PATIENCE,
                connect_args=_options(address),
            )
        except ModuleNotFoundError as error:
            extra = EXTRAS[address.get_backend_name()]
            raise StoreError(
                f'{name}: needs the driver {error.name}: pip install "m6rec[{extra}]"'
            ) from None
        sa.event.listen(engine, "connect", _prepare_sqlite if _is_sqlite(engine) else _prepare)
        database = cls(engine, name)
        try:
            with database.said("cannot be opened"):
                if _is_sqlite(engine):
                    _use_wal(engine)
                database._migrate()
        except BaseException:
            engine.dispose()
            raise
        return database

    def close(self) -> None:
        self.engine.dispose()

    def rows(self, statement: sa.Executable, given: Mapping[str, Any]) -> Sequence[Any]:
        """Return what a select finds; asked once more where the connection had been lost."""
        return self._read(lambda connection: connection.execute(statement, given))

    def kept(self, statement: sa.CompoundSelect[Any], given: Mapping[str, Any]) -> Sequence[Any]:
        """As ``rows``, for a statement that is kept by whoever asks: its SQL is written once.
        Values go in and come out as the driver has them."""
        made = self._kept.get(statement)
        if made is None:
            of = statement.compile(self.engine)
            made = self._kept[statement] = str(of), of.params, of.positiontup
        sql, usual, places = made
        named = {**usual, **given}
        values: Any = named if places is None else tuple(named[name] for name in places)
        with self.said("cannot be read"):
            connection: Any = self.engine.raw_connection()
            try:
                found: Sequence[Any] = connection.driver_connection.execute(sql, values).fetchall()
                return found
            except self._driver_error as error:
                if not self.engine.dialect.is_disconnect(error, connection.dbapi_connection, None):  # type: ignore[arg-type]
                    raise
                connection.invalidate()
            finally:
                connection.close()
        return self._read(lambda connection: connection.exec_driver_sql(sql, values))

    def _read(self, ask: Callable[[sa.Connection], sa.CursorResult[Any]]) -> Sequence[Any]:
        with self.said("cannot be read"):
            try:
                return self._asked(ask)
            except sa.exc.DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                return self._asked(ask)

    def _asked(self, ask: Callable[[sa.Connection], sa.CursorResult[Any]]) -> Sequence[Any]:
        with self.engine.connect() as connection:
            return ask(connection).all()

    def shred(self) -> None:
        """Write over what the write-ahead log of SQLite still holds of rows that were erased."""
        if _is_sqlite(self.engine):
            with self.said("cannot be written"), self.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Whole or not at all, and no other writer, of any process, until it has ended."""
        with self._begun() as connection:
            try:
                yield connection
                connection.exec_driver_sql("COMMIT")
            except BaseException:
                try:
                    connection.exec_driver_sql("ROLLBACK")
                except sa.exc.SQLAlchemyError:  # lost, or the database itself rolled back
                    connection.invalidate()
                raise

    def _begun(self, again: bool = True) -> sa.Connection:
        """Return a connection in a transaction; a new one where the pooled one had been lost."""
        connection = self.engine.connect()
        try:
            connection.exec_driver_sql(BEGIN[connection.dialect.name])
        except BaseException as error:
            connection.invalidate()  # PostgreSQL's is in a transaction that failed
            connection.close()
            lost = isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated
            if not lost or not again:
                raise
            return self._begun(again=False)
        return connection

    @contextmanager
    def said(self, what: str) -> Iterator[None]:
        """Turn the errors of the database into one sentence; a client reads what a DataError says,
        so it does not name the database."""
        try:
            yield
        except (UnicodeError, OverflowError, sa.exc.DataError, self._data_error) as error:
            raise DataError(f"the store: {what}: {self._first_line(error)}") from None
        except (sa.exc.SQLAlchemyError, self._driver_error) as error:
            raise StoreError(f"{self.name}: {what}: {self._first_line(error)}") from None

    def _first_line(self, error: Exception) -> str:
        cause = getattr(error, "orig", None) or error
        line = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        url = self.engine.url
        for secret in (url.password, *(v for k, v in url.query.items() if "pass" in k)):
            line = line.replace(str(secret), "***") if secret else line
        return line

    def _migrate(self) -> None:
        """Run the migrations that this database lacks; of several openers one does."""
        from alembic import command
        from alembic.config import Config
        from alembic.script import ScriptDirectory

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        script = ScriptDirectory.from_config(config)
        if self._version() == script.get_current_head():
            return
        with self.transaction() as connection:
            version = self._version(connection)
            if version is not None and version not in {s.revision for s in script.walk_revisions()}:
                raise StoreError(
                    f"{self.name}: was made by a newer m6rec (tables of version {version}); "
                    "upgrade m6rec"
                )
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def _version(self, connection: sa.Connection | None = None) -> str | None:
        if connection is None:
            with self.engine.connect() as connection:
                return self._version(connection)
        if not sa.inspect(connection).has_table(VERSION):
            return None
        found = connection.exec_driver_sql(f"SELECT version_num FROM {VERSION}").scalar()
        return None if found is None else str(found)


def _address(url: str) -> tuple[sa.URL, str]:
    """Return the URL with its driver, and what messages call it."""
    try:
        address = sa.make_url(url)
        kind = address.get_backend_name()
    except (sa.exc.ArgumentError, ValueError):
        raise StoreError(
            'the store: not a database URL; write "sqlite:///m6rec.db" or "postgresql://…"'
        ) from None
    if kind in ("postgresql", "postgres"):
        address = address.set(drivername="postgresql+psycopg")
        port = f":{address.port}" if address.port else ""
        return address, f"postgresql://{address.host or ''}{port}/{address.database or ''}"
    if kind != "sqlite":
        raise StoreError(f'the store: "{kind}" is neither sqlite nor postgresql')
    if address.database in (None, "", ":memory:"):
        raise StoreError('the store: needs a file, as in "sqlite:///m6rec.db"')
    return address.set(drivername="sqlite"), f"sqlite:///{address.database}"


def _options(address: sa.URL) -> dict[str, Any]:
    if address.get_backend_name() == "sqlite":
        return {"timeout": PATIENCE, "check_same_thread": False}
    usual = {"connect_timeout": 10, **ALIVE}
    return {name: value for name, value in usual.items() if name not in address.query}


def _is_sqlite(engine: sa.Engine) -> bool:
    return engine.dialect.name == "sqlite"


def _prepare_sqlite(connection: Any, _record: object) -> None:
    for line in PRAGMAS:
        connection.execute(line)


def _prepare(connection: Any, _record: object) -> None:
    connection.autocommit = True
    for line in SETTINGS:
        connection.execute(line)


def _use_wal(engine: sa.Engine) -> None:
    """Readers do not wait for the writer; a file stays in this mode. Others may just do it too."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")
            return
        except sa.exc.OperationalError as error:
            if "locked" not in str(error.orig) or time.monotonic() > end:
                raise
            time.sleep(0.02)
