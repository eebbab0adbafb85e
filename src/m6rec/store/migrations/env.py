"""What Alembic runs: the migrations, in the transaction of whoever opens the store."""

from __future__ import annotations

from alembic import context

from m6rec.store.schema import METADATA, VERSION

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION,
    transactional_ddl=False,  # the opener commits
)
context.run_migrations()
