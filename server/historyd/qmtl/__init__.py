"""qmtl's history provider with the engine in this process: no server to start."""

from historyd.qmtl.provider import CcxtQuestDBProvider

__all__ = ["CcxtQuestDBProvider"]
