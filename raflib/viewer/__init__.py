"""The puppet: a trained avatar that is moved by hand in JupyterLab.

    from raflib.viewer import Puppet
    Puppet(run, capture, bank=bank)                  # or Puppet([vanilla, raf], capture), side by side

`Scene`, `Drive`, `Coverage` and the meaning of the sliders (`controls`) contain no widget and need no browser. The
puppet needs ipywidgets and anywidget (`pip install raflib[lab]`). It renders in a thread that always takes the newest
view, so a slow render skips frames and never falls behind.
"""

from importlib import import_module

from raflib.errors import RafError

_WHERE = {
    "Coverage": "raflib.viewer.meter",
    "Drive": "raflib.viewer.drive",
    "Puppet": "raflib.viewer.puppet",
    "Scene": "raflib.viewer.scene",
    "View": "raflib.viewer.scene",
}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(_WHERE[name]), name)
    except ModuleNotFoundError as error:
        if error.name not in ("ipywidgets", "anywidget"):
            raise
        raise RafError(f"raflib.viewer: {name} needs {error.name}; pip install 'raflib[lab]'") from None


def __dir__() -> list[str]:
    return [*globals(), *__all__]
