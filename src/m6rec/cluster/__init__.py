"""The same steps on the machines of a Ray cluster; needs the extra ``ray``."""
