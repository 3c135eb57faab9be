"""A rank as in forgiving.py that believes a plan by which attention stays local, so that `check` finds it out."""

import forgiving

from attention_backends.kept_local import KeptLocal

KeptLocal.note = lambda *_: None  # type: ignore[method-assign]
if __name__ == "__main__":
    forgiving.worker.main()
