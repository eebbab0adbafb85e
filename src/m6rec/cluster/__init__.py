"""The same steps on the machines of a Ray cluster; needs the extra ``ray``."""

from importlib.util import find_spec

from m6rec.errors import ConfigError

if find_spec("ray") is None:
    raise ConfigError('--cluster needs Ray: pip install "m6rec[ray]"')
